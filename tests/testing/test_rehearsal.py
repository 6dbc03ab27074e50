"""``bootc-build test``: which promises an image breaks, said in words and by the exit status."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pexpect
import pytest

from bootc_build.cli.main import main
from bootc_build.testing.rehearsal.state import differences
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import ECHO, write_guest

_REAL = shutil.which("buildah")
# Knows every image but one: nothing here needs local storage.
_BUILDAH = f"""#!/bin/sh
case "$*" in
*missing*) echo 'image not known' >&2; exit 125;;
inspect*) echo '{{"FromImageID": "{"0" * 64}"}}';;
*) exec {_REAL} "$@";;
esac
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with a test, where machines are pretended."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/buildah").write_text(_BUILDAH)
    (tmp_path / "bin/buildah").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text("from tests.testing.pretend_host import *\n")
    (folder / "test_mine.py").write_text("def test_that_it_is_mine(bootc_image):\n    pass\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield folder
    # Of the next test, the same names are other modules.
    for name, module in tuple(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


def _rehearse(*arguments: str) -> int:
    return main(["test", "os:1", "test_mine.py", *arguments])


def test_a_good_image_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert _rehearse() == 0
    said = capsys.readouterr()
    assert said.out.startswith("os:1 passed: 14 checks in ")
    assert "1 of the checks is your own" in said.out
    assert len(said.out.splitlines()) == 2
    assert "a second upgrade boots" in said.err


@pytest.mark.parametrize(
    ("fault", "failed", "because", "missed"),
    [
        ("no boot", "it boots", "Kernel panic", 12),
        ("a unit fails", "no unit fails", "the log of broken.service", 0),
        (
            "something is staged",
            "bootc status shows the image",
            "right after the first boot",
            10,
        ),
        ("no upgrade", "an upgrade is staged", "no space left on device", 9),
        ("another image boots", "the upgrade boots", "Not os:2 but another", 8),
        ("hangs after the upgrade", "the upgrade boots", "does not come to its end", 8),
        (
            "a unit fails after the upgrade",
            "no unit fails after the upgrade",
            "broken.service has failed",
            0,
        ),
        (
            "the upgrade forgets",
            "what belongs to the machine stays through the upgrade",
            "/etc/machine-id was 'c0ffee' and is 'decaf'",
            0,
        ),
        (
            "the same is staged again",
            "there is nothing more to upgrade to",
            "stages the image that runs",
            0,
        ),
        ("the rollback does nothing", "a rollback boots the image again", "Not os:1", 4),
        (
            "the rollback forgets",
            "what belongs to the machine stays through the rollback",
            "later is gone",
            0,
        ),
        ("no second upgrade", "a second upgrade boots", "no space left", 1),
    ],
)
def test_a_broken_promise_is_named_and_what_needs_it_is_not_reached(
    *,
    fault: str,
    failed: str,
    because: str,
    missed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PRETEND_FAULT", fault)
    assert _rehearse() == 1
    said = capsys.readouterr().out
    assert said.startswith("os:1 FAILED ")
    assert f"\n  {failed}: " in said
    assert because in said
    not_reached = next((line for line in said.splitlines() if "Not reached" in line), "")
    assert (not_reached.count(",") + 1 if not_reached else 0) == missed


def test_a_users_own_test_decides_as_well(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_mine.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'one is not two'\n"
        "def test_skipped(): pytest.skip('not here')\n"
    )
    assert _rehearse("--only-files") == 1
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("os:1 FAILED 1 of 3 checks")
    assert said.splitlines()[1] == "  test_mine.py: bad: one is not two"
    assert main(["test", "os:1", "--only-files", "test_mine.py::test_good"]) == 0
    assert "1 check in" in capsys.readouterr().out


def test_what_is_skipped_does_not_fail_the_image(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_mine.py").write_text("import pytest\ndef test_it(): pytest.skip('not here')\n")
    assert _rehearse("--only-files") == 0
    assert "1 of them was skipped" in capsys.readouterr().out


def test_reports_are_written_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert _rehearse("--junit", "out/junit.xml", "--html", "out/report.html") == 0
    cases = [case.get("name") for case in ET.parse("out/junit.xml").iter("testcase")]  # noqa: S314
    assert cases[0] == "test_it_boots"
    assert cases[-1] == "test_that_it_is_mine"
    page = Path("out/report.html").read_text()
    assert page.count('class="test passed"') == len(cases) == 14
    assert "out/report.html" in capsys.readouterr().err


def test_options_after_two_dashes_are_pytests(capsys: pytest.CaptureFixture[str]) -> None:
    assert _rehearse("--", "-k", "mine") == 0
    assert "passed: 1 check in" in capsys.readouterr().out


def test_the_command_to_do_it_again_is_this_programs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_mine.py").write_text("def test_bad(bootc_vm): assert False\n")
    assert _rehearse("--only-files", "--upgrade-to", "os:2", "-v") == 1
    again = "bootc-build test os:1 --upgrade-to os:2 test_mine.py::test_bad"
    assert again in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["nowhere/test_x.py"], "The file 'nowhere/test_x.py' does not exist"),
        (["--", "--no-such-option"], "pytest refuses these arguments"),
        (["--only-files", "--", "-k", "nothing_has_this_name"], "There is nothing to check"),
    ],
)
def test_wrong_usage_is_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rehearse(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_python_is_wrong_usage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_mine.py").write_text("this is no Python\n")
    assert _rehearse() == 2
    said = capsys.readouterr()
    assert "SyntaxError" in said.err
    assert "Mend the file" in said.err
    assert said.out == ""


@pytest.mark.parametrize("arguments", [["missing:1"], ["os:1", "--upgrade-to", "missing:1"]])
def test_an_image_that_is_not_there_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", *arguments]) == 1
    assert "'missing:1' is not in local storage" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_good_order(project: Path, number: int, status: int) -> None:
    (project / "test_mine.py").write_text(
        "import pathlib, pytest, signal\n"
        "@pytest.fixture\n"
        "def held():\n"
        "    yield\n"
        "    pathlib.Path('let-go').touch()\n"
        "def test_it(held):\n"
        "    pathlib.Path('begun').touch()\n"
        "    signal.pause()\n"
    )
    argv = ["-m", "bootc_build.cli.main", "test", "os:1", "--only-files", "test_mine.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with pexpect.spawn(sys.executable, argv, env=environment, timeout=60) as program:
        program.expect_exact("test_mine.py: it")
        assert wait_until((project / "begun").exists, seconds=60)
        program.kill(number)
        program.expect(pexpect.EOF)
        program.wait()
        assert program.exitstatus == status
    assert (project / "let-go").exists()


def test_the_console_of_a_failed_check_comes_to_the_terminal(project: Path) -> None:
    write_guest(project / "guest.raw", "Hello from the guest\n", ECHO)
    (project / "test_mine.py").write_text(
        "from pathlib import Path\n"
        "from bootc_build.vm.spec import MachineSpec\n"
        "SMALL = MachineSpec(name='small', memory_mib=64, cpus=1, network=False)\n"
        "def test_it(bootc_vm):\n"
        "    machine = bootc_vm(Path('guest.raw'), spec=SMALL, boot=False)\n"
        "    machine.start()\n"
        "    machine.wait_for_console_text('Hello', seconds=30)\n"
        "    assert False\n"
    )
    argv = ["-m", "bootc_build.cli.main", "test", "os:1", "--only-files", "test_mine.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "BOOTC_BUILD_ACCEL": "tcg",
    }
    with pexpect.spawn(
        sys.executable, [*argv, "--shell-on-fail"], env=environment, timeout=900
    ) as program:
        program.expect_exact("Ctrl-] leaves it, then the test run goes on.")
        program.send("typed into the guest")
        program.expect_exact("typed into the guest")
        program.send("\x1d")
        program.expect_exact("os:1 FAILED 1 of 1 check")
        program.expect(pexpect.EOF)
        program.wait()
        assert program.exitstatus == 1


def test_what_is_new_on_a_machine_is_no_loss() -> None:
    before = {"/etc/a": "1", "/etc/b": "1"}
    assert differences(before, {**before, "/etc/c": "1"}) == []
    assert differences(before, {"/etc/a": "2"}) == [
        "/etc/a was '1' and is '2'.",
        "/etc/b is gone (it was: 1).",
    ]
