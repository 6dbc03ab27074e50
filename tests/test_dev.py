"""The tests that `./dev` runs, in a checkout of a few small ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
# Nothing is installed: what `./dev` looks for is there.
_PROGRAMS = {
    "dpkg-query": "#!/bin/sh\necho installed\n",
    "qemu-system-x86_64": "#!/bin/sh\necho QEMU emulator version 10.0.2\n",
    "pip": "#!/bin/sh\n",
    "pytest": f'#!/bin/sh\nexec {sys.executable} -m pytest "$@"\n',
}
_MATRIX = ("test_fault_matrix.py", "test_health.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One test in each of four files of `test_vms`, three of them long, and one in `tests`."""
    shutil.copy(PROJECT / "dev", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\ntestpaths = ['tests']\nmarkers = ['long: ']\n"
    )
    programs = tmp_path / ".venv/bin"
    (programs.parent / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}").mkdir(parents=True)
    programs.mkdir()
    for name, text in _PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    test = "import pytest\n\ndef test_one(): pass\n"
    long = test.replace("\n\n", "\n\n@pytest.mark.long\n")
    files = {
        "tests/test_unit.py": test,
        "test_vms/test_boot.py": test,
        "test_vms/test_far.py": long,
    }
    files |= {f"test_vms/{name}": long for name in _MATRIX}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(PROJECT / "test_vms/selection.py", tmp_path / "test_vms/conftest.py")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        ("test-vms", {"test_boot.py"}),
        ("test-vms --all", {"test_boot.py", "test_far.py", *_MATRIX}),
        ("test-vms --all test_vms/test_far.py", {"test_far.py"}),
        ("test-vms test_vms/test_far.py::test_one", {"test_far.py"}),
        # The value of an option names no test.
        ("test-vms --all --ignore test_vms/test_boot.py", {"test_far.py", *_MATRIX}),
        ("test-vms --ignore=test_vms/test_far.py", {"test_boot.py"}),
        ("test-vms --all --deselect test_vms/test_far.py::test_one", {"test_boot.py", *_MATRIX}),
        ("fault-matrix", {*_MATRIX}),
        ("fault-matrix test_vms/test_health.py", {"test_health.py"}),
        ("fault-matrix -k one", {*_MATRIX}),
        ("fault-matrix --deselect test_vms/test_health.py", {"test_fault_matrix.py"}),
    ],
)
def test_options_and_their_values_name_no_test(
    checkout: Path, arguments: str, ran: set[str]
) -> None:
    command = ["./dev", *arguments.split(), "--collect-only", "-q"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert done.returncode == 0, done.stdout + done.stderr
    assert {Path(line.partition("::")[0]).name for line in found} == ran
