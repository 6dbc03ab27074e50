"""``bootc-build test`` on real machines: a good image passes, a bad one does not, and the verdict says why."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from test_vms import os_images
from test_vms.example_os import Versions

_OWN = """
def test_the_service_greets(bootc_vm, bootc_image):
    vm = bootc_vm(bootc_image)
    assert "hello from version" in vm.succeed("hello")
"""


def _console(page: str) -> list[str]:
    """What the first machine of a report printed, and what was done to it."""
    [blob] = re.findall(r'<script type="application/gzip" id="machine-0">([^<]*)<', page)
    machine = json.loads(gzip.decompress(base64.b64decode(blob)))
    return ["".join(text for text, _ in parts) for _, _, parts in machine["lines"]]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
def test_an_image_with_a_failing_unit_fails(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    image = os_images.build(
        "broken-unit",
        os_images.PROJECT / "test_vms/rehearsal/Containerfile",
        arguments=[("EXAMPLE", versions.one)],
    )
    options = ["--html", "report.html", "--", "-k", "it_boots or test_no_unit_fails"]
    assert main(["test", image, *options]) == 1
    said = capsys.readouterr().out
    assert "FAILED" in said.splitlines()[0]
    assert "the unit broken.service has failed" in said
    assert "it is broken" in said
    console = _console(Path("report.html").read_text())
    assert any("Linux version" in line for line in console)
    assert any(line.startswith("failed: rehearsal::test_no_unit_fails: ") for line in console)


@pytest.mark.long
def test_an_image_that_keeps_its_promises_passes(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("test_own.py").write_text(_OWN)
    assert main(["test", versions.one, "--upgrade-to", versions.two, "test_own.py"]) == 0
    said = capsys.readouterr().out
    assert "passed: 14 checks" in said
    assert "1 of the checks is your own" in said
