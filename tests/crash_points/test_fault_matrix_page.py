from pathlib import Path

import pytest

from test_vms import fault_matrix_page
from test_vms.fault_cells import CELLS, REGISTRY_CELLS


def test_results_of_several_runs_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "matrix.md"
    monkeypatch.setenv(fault_matrix_page.VARIABLE, str(page))
    fault_matrix_page.note("import", "kill-agent", "VIOLATED: x", "signal")
    fault_matrix_page.note("fetch", "disk-full", "kept", "exit-code")
    assert "2 of " in page.read_text()
    assert "1 violations" in page.read_text()
    fault_matrix_page.note("import", "kill-agent", "kept", "signal")
    text = page.read_text()
    assert f"2 of {len(fault_matrix_page.planned_cells())} cells tried, 0 violations" in text
    assert text.index("| fetch | disk-full | kept |") < text.index("| import | kill-agent | kept |")


def test_a_cell_that_is_no_longer_planned_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "matrix.md"
    monkeypatch.setenv(fault_matrix_page.VARIABLE, str(page))
    fault_matrix_page.note("fetch", "no-such-fault", "VIOLATED: x", "signal")
    fault_matrix_page.note("fetch", "disk-full", "kept", "exit-code")
    assert "1 of " in page.read_text()
    assert "no-such-fault" not in page.read_text()


def test_an_ordinary_run_writes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fault_matrix_page.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    fault_matrix_page.note("import", "kill-agent", "kept", "signal")
    assert list(tmp_path.iterdir()) == []


def test_there_are_a_hundred_cells() -> None:
    assert len(fault_matrix_page.planned_cells()) >= 100
    cells = [*CELLS, *REGISTRY_CELLS]
    assert len(cells) == len(set(cells))
