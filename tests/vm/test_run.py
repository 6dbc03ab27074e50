"""``bootc-build run`` as a user types it."""

import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.process import run, running
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import write_guest

_RUN = [sys.executable, "-m", "bootc_build.cli.main", "run"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Machines keep their files here, and the accelerator is not probed again for each test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("BOOTC_BUILD_ACCEL", "tcg")
    yield
    assert list((tmp_path / "tmp").iterdir()) == []


def _guest(folder: Path, text: str) -> str:
    return str(write_guest(folder / "guest.raw", text))


def test_the_console_is_on_the_terminal_until_the_escape_key(tmp_path: Path) -> None:
    disk = _guest(tmp_path, "Hello from the guest\n")
    with pexpect.spawn(_RUN[0], [*_RUN[1:], disk], timeout=60) as program:
        before = termios.tcgetattr(program.child_fd)
        program.expect_exact("Hello from the guest")
        assert termios.tcgetattr(program.child_fd) != before
        qemu = int(run(["pgrep", "-P", str(program.pid), "qemu"]).stdout)
        # The guest that a person sees is as it is: nothing starts a shell for commands in it.
        assert b"bootc-build.lane" not in Path(f"/proc/{qemu}/cmdline").read_bytes()
        program.send("\x1d")
        program.expect(pexpect.EOF)
        assert termios.tcgetattr(program.child_fd) == before
        program.wait()
        assert program.exitstatus == 0
        assert not Path(f"/proc/{qemu}").exists()


def test_the_terminal_comes_back_after_a_signal(tmp_path: Path) -> None:
    disk = _guest(tmp_path, "Hello from the guest\n")
    with pexpect.spawn(_RUN[0], [*_RUN[1:], disk], timeout=60) as program:
        before = termios.tcgetattr(program.child_fd)
        program.expect_exact("Hello from the guest")
        program.kill(15)
        program.expect(pexpect.EOF)
        assert termios.tcgetattr(program.child_fd) == before
        program.wait()
        assert program.exitstatus == 143


def test_interrupting_a_boot_leaves_no_process(tmp_path: Path) -> None:
    disk = _guest(tmp_path, "Booting for ever\n")
    with pexpect.spawn(_RUN[0], [*_RUN[1:], "-v", disk, "--", "true"], timeout=60) as program:
        program.expect_exact("Booting for ever")
        qemu = int(run(["pgrep", "-P", str(program.pid), "qemu"]).stdout)
        assert b"bootc-build.lane" in Path(f"/proc/{qemu}/cmdline").read_bytes()
        program.sendintr()
        program.expect(pexpect.EOF)
        program.wait()
        assert program.exitstatus == 130
        assert wait_until(lambda: not Path(f"/proc/{qemu}").exists(), seconds=5)


def test_a_command_is_not_lost_to_an_emulation_that_starved_its_guest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = _guest(tmp_path, "Kernel panic - not syncing: IO-APIC + timer doesn't work!\n")
    assert main(["run", disk, "--", "true"]) == 125
    said = capsys.readouterr().err
    # The second time it is the guest's word.
    assert said.count("The emulation failed; once more") == 1
    assert said.count("error: ") == 1


def test_without_a_terminal_the_console_goes_to_standard_output(tmp_path: Path) -> None:
    disk = _guest(tmp_path, "Hello into a pipe\n")
    argv = [*_RUN, "-q", disk]
    with running(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert any(b"Hello into a pipe" in line for line in program.stdout)


def test_a_guest_in_trouble_is_our_own_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = _guest(tmp_path, "Kernel panic - not syncing: no root\n")
    assert main(["run", disk, "--", "true"]) == 125
    assert "Kernel panic - not syncing: no root" in capsys.readouterr().err


def test_a_disk_that_is_not_there_is_our_own_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "/nowhere/disk.qcow2", "--", "true"]) == 125
    assert "/nowhere/disk.qcow2" in capsys.readouterr().err


def test_an_image_that_is_not_there_is_our_own_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "localhost/bootc-build-test/is-not-there", "--", "true"]) == 125
    assert "is not in local storage" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--memory", "0"], ["--cpus", "0"], ["--forward", "22"]])
def test_a_wrong_wish_is_wrong_usage(wrong: list[str], tmp_path: Path) -> None:
    assert main(["run", *wrong, _guest(tmp_path, "Hello")]) == 2


def test_what_is_kept_on_a_disk_cannot_come_from_a_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--snapshot", "--persist", _guest(tmp_path, "Hello")]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_missing_qemu_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = _guest(tmp_path, "Hello")
    monkeypatch.setattr("bootc_build.onhost.process.shutil.which", lambda *_a, **_k: None)
    assert main(["run", disk, "--", "true"]) == 125
    assert "apt-get install qemu-system-x86" in capsys.readouterr().err
