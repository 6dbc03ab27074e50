"""Machines that fail in every way: the error comes soon and says what happened, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.errors import (
    ConsoleBadnessError,
    MachineDiedError,
    MachineError,
    WaitTimeoutError,
)
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, Firmware, MachineSpec
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import HALT, LEAVE, RESTART, write_guest

_TCG = Acceleration(Accelerator.TCG, 1.0)
_SMALL = {"memory_mib": 64, "cpus": 1, "network": False}

Make = Callable[..., Machine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a machine of a boot sector that prints a text."""
    with ExitStack() as stack:

        def make_machine(text: str, then: bytes = HALT, **wishes: object) -> Machine:
            disk = Disk.open(write_guest(tmp_path / "guest.raw", text, then))
            spec = MachineSpec(disks=(disk,), **{**_SMALL, **wishes})  # type: ignore[arg-type]
            folder = tmp_path / "machines"
            folder.mkdir(exist_ok=True)
            log = tmp_path / "console.log"
            return stack.enter_context(Machine(spec, acceleration=_TCG, log=log, folder=folder))

        yield make_machine
    assert list((tmp_path / "machines").iterdir()) == []


def _is_gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_the_guest_prints_is_on_the_console_and_in_the_log(make: Make, tmp_path: Path) -> None:
    machine = make("Hello\nfrom the guest\n")
    machine.start()
    assert machine.wait_for_console_text("from the g.est", seconds=30) == "from the guest"
    assert "] Hello\n" in (tmp_path / "console.log").read_text()


def test_a_guest_that_never_logs_in_is_told_with_its_last_words(make: Make) -> None:
    machine = make("Booting for a very long time")
    machine.start()
    machine.wait_for_console_text("Booting", seconds=30)
    with pytest.raises(WaitTimeoutError, match="No shell came up") as caught:
        machine.wait_for_shell(seconds=0.5)
    assert "Booting for a very long time" in str(caught.value)


def test_a_text_that_does_not_come_is_told_with_the_last_words(make: Make) -> None:
    machine = make("Something else\n")
    machine.start()
    machine.wait_for_console_text("Something", seconds=30)
    with pytest.raises(WaitTimeoutError, match="console text /awaited/") as caught:
        machine.wait_for_console_text("awaited", seconds=0.2)
    assert caught.value.console_tail[-1] == "Something else"


def test_a_panic_ends_the_boot_at_once(make: Make) -> None:
    machine = make("[    1.000000] Kernel panic - not syncing: no init\n[    1.000001] CPU: 0\n")
    begun = time.monotonic()
    with pytest.raises(ConsoleBadnessError, match=r"kernel panic.*no init"):
        machine.boot(seconds=200)
    assert time.monotonic() - begun < 60


def test_a_restart_that_nobody_expected_ends_the_machine(make: Make) -> None:
    machine = make("Round and round\n", RESTART)
    with pytest.raises(MachineDiedError, match="restarted although no restart was expected"):
        machine.boot(seconds=200)


def test_a_guest_that_may_restart_goes_on(make: Make) -> None:
    machine = make("Round and round\n", RESTART, may_reboot=True)
    machine.start()
    rounds = machine.console.history
    assert wait_until(lambda: len(rounds) >= 3, seconds=60)
    assert machine.qemu.alive


def test_a_guest_that_powers_itself_off_is_told(make: Make) -> None:
    machine = make("Bye\n", LEAVE, extra_args=("-device", "isa-debug-exit,iobase=0xf4"))
    with pytest.raises(MachineDiedError, match="powered itself off") as caught:
        machine.boot(seconds=200)
    assert caught.value.console_tail == ("Bye",)


def test_a_killed_qemu_is_told_with_the_signal(make: Make) -> None:
    machine = make("Hello\n")
    machine.start()
    machine.wait_for_console_text("Hello", seconds=30)
    os.kill(machine.qemu.process_id, signal.SIGKILL)
    with pytest.raises(MachineDiedError, match="killed by signal 9"):
        machine.wait_for_shell(seconds=200)


def test_a_qemu_that_does_not_start_says_why(make: Make) -> None:
    machine = make("", extra_args=("-device", "no-such-device"))
    with pytest.raises(MachineDiedError, match=r"did not start.*no-such-device"):
        machine.start()


def test_a_machine_that_is_off_says_so(make: Make) -> None:
    machine = make("Hello\n")
    for use in (lambda: machine.qemu, lambda: machine.console):
        with pytest.raises(MachineError, match="is off"):
            use()


def test_a_command_without_a_shell_is_told(make: Make) -> None:
    machine = make("Hello\n")
    machine.start()
    with pytest.raises(MachineError, match="has no shell"):
        machine.succeed("true")


def test_power_can_be_cut_and_come_back(make: Make) -> None:
    machine = make("Hello\n")
    machine.start()
    process = machine.qemu.process_id
    machine.power_cut()
    assert _is_gone(process)
    machine.start()
    machine.wait_for_console_text("Hello", seconds=30)


def test_uefi_firmware_that_finds_nothing_to_boot_is_told(make: Make) -> None:
    machine = make("not for UEFI", firmware=Firmware.UEFI, memory_mib=256)
    machine.start()
    with pytest.raises(ConsoleBadnessError, match="firmware"):
        machine.wait_for_shell(seconds=200)


def test_an_error_inside_leaves_nothing_running(tmp_path: Path) -> None:
    disk = Disk.open(write_guest(tmp_path / "guest.raw", "Hello\n"))
    spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False)
    folder = tmp_path / "machines"
    folder.mkdir()
    process = 0
    with (  # noqa: PT012 - it is the block that is tested
        pytest.raises(KeyboardInterrupt),
        Machine(spec, acceleration=_TCG, folder=folder) as one,
    ):
        one.start()
        process = one.qemu.process_id
        raise KeyboardInterrupt
    assert _is_gone(process)
    assert list(folder.iterdir()) == []


_PARENT = """
import sys, time
from pathlib import Path
from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, MachineSpec
spec = MachineSpec(disks=(Disk.open(Path(sys.argv[1])),), memory_mib=64, cpus=1, network=False)
with Machine(spec, acceleration=Acceleration(Accelerator.TCG, 1.0), folder=Path(sys.argv[2])) as machine:
    machine.start()
    print(machine.qemu.process_id, flush=True)
    sys.stdin.read()
"""


def test_qemu_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    disk = write_guest(tmp_path / "guest.raw", "Hello\n")
    argv = [sys.executable, "-c", _PARENT, str(disk), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert not _is_gone(process)
        parent.kill()
    assert wait_until(lambda: _is_gone(process), seconds=20)
