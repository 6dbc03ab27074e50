import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bootc_build.cli.main import main
from bootc_build.doctor import machine
from bootc_build.doctor.findings import Finding, Level, failed, installation
from bootc_build.tools import binfmt, rootless
from bootc_build.tools.sizes import GIB

ABSENT = ("mmdebstrap", "mcopy", "sbverify")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks some programs."""
    real = shutil.which

    def which(name: str, path: str | None = None) -> str | None:
        return None if name in ABSENT else real(name, path=path)

    monkeypatch.setattr("bootc_build.onhost.process.shutil.which", which)


@pytest.mark.usefixtures("without")
def test_everything_that_is_missing_is_said_at_once_with_one_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    for line in (
        "MISSING  mmdebstrap: The program 'mmdebstrap' is not installed.",
        "         Install it with: apt-get install mmdebstrap",
        "MISSING  mcopy: The program 'mcopy' is not installed.",
        "WARNING  sbverify: The program 'sbverify' is not installed.",
        "         needed for: Secure Boot reports of inspect",
    ):
        assert line in said.splitlines()
    command = said.splitlines()[-1]
    assert command.startswith("All that is not installed: apt-get install ")
    assert {"mmdebstrap", "mtools", "sbsigntool"} <= set(command.split())


@pytest.mark.usefixtures("without")
def test_json_has_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 1
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["mmdebstrap"]["level"] == "missing"
    assert found["buildah"]["level"] == "ok"
    assert {"overlay", "rights", "memory", "temporary files", "output"} <= set(found)


def test_warnings_alone_are_no_failure() -> None:
    warning = Finding("a", Level.WARNING, "slow", "do this", package="fast")
    assert not failed([warning, Finding("b", Level.OK, "fine")])
    assert failed([warning, Finding("c", Level.MISSING, "gone")])
    assert installation([warning]) == "apt-get install fast"
    assert installation([Finding("b", Level.OK, "fine")]) == ""


def test_too_little_space_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bootc_build.doctor.machine.shutil.disk_usage", lambda _: SimpleNamespace(free=GIB // 2)
    )
    found = {each.name: each for each in machine.check_space(tmp_path / "not/yet/there")}
    assert found["output"].level is Level.MISSING
    assert "512 MiB free" in found["output"].fact
    assert "--output" in found["output"].remedy


def test_a_folder_that_cannot_be_looked_at_is_no_traceback(tmp_path: Path) -> None:
    # As with one below a folder of another user.
    found = {each.name: each for each in machine.check_space(tmp_path / ("x" * 300) / "y")}
    assert "free in" in found["output"].fact


def test_a_folder_that_cannot_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    [found] = [each for each in machine.check_space(tmp_path / "file") if each.name == "output"]
    assert (found.level, found.fact) == (Level.MISSING, f"{tmp_path / 'file'} is no folder.")
    monkeypatch.setattr("bootc_build.doctor.machine.os.access", lambda *_: False)
    [found] = [each for each in machine.check_space(tmp_path / "new") if each.name == "output"]
    assert found.fact == f"{tmp_path} may not be written to by this user."
    assert "--output" in found.remedy


def test_what_a_user_lacks_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "subuid"
    empty.touch()
    monkeypatch.setattr("bootc_build.doctor.machine.os.geteuid", lambda: 1000)
    monkeypatch.setattr(rootless, "_SUBIDS", {"uid": empty, "gid": empty})
    found = list(machine.check_rights())
    assert [each.level for each in found] == [Level.MISSING, Level.MISSING]
    assert "usermod --add-subuids" in found[0].remedy


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("enabled\ninterpreter /usr/bin/q\nflags: F\noffset 0\n", "/usr/bin/q"),
        ("enabled\ninterpreter /usr/bin/q\nflags: OC\noffset 0\n", ""),
        ("disabled\ninterpreter /usr/bin/q\nflags: F\noffset 0\n", ""),
        (None, ""),
    ],
)
def test_only_an_interpreter_that_works_inside_images_counts(
    text: str | None, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binfmt, "_REGISTERED", tmp_path)
    monkeypatch.setattr("bootc_build.tools.binfmt.platform.machine", lambda: "x86_64")
    if text is not None:
        (tmp_path / "qemu-aarch64").write_text(text)
    assert binfmt.interpreter("arm64") == answer
    assert binfmt.interpreter("amd64") == "the processor"
