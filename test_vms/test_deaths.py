"""Machines with a real kernel that fail: the test is over soon, says what happened, and nothing stays behind."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.errors import (
    ConsoleBadnessError,
    GuestCommandError,
    MachineDiedError,
    MachineError,
    ShellLostError,
    WaitTimeoutError,
)
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Login
from test_vms.tiny_guest import TinyGuest

# Far less than what a command may take; nominal seconds.
_SOON = 60.0


@pytest.fixture
def guest(bootc_vm: MachineFactory, tiny_guest: TinyGuest) -> Iterator[Machine]:
    """A guest to be killed; afterwards it is checked that nothing of it runs."""
    machine = bootc_vm(tiny_guest.disk, spec=tiny_guest.spec())
    process = machine.qemu.process_id
    yield machine
    machine.power_cut()
    assert not Path(f"/proc/{process}").exists()


@contextmanager
def _told_soon(machine: Machine, kind: type[MachineError], fact: str) -> Iterator[None]:
    begun = time.monotonic()
    with pytest.raises(kind, match=fact) as caught:
        yield
    assert time.monotonic() - begun < machine.seconds(_SOON)
    assert caught.value.console_tail


def test_a_panic(guest: Machine) -> None:
    with _told_soon(guest, ConsoleBadnessError, r"kernel panic.*sysrq triggered crash"):
        guest.succeed("echo c > /proc/sysrq-trigger", seconds=3600)


def test_a_dead_qemu(guest: Machine) -> None:
    os.kill(guest.qemu.process_id, signal.SIGKILL)
    with _told_soon(guest, MachineDiedError, "'sleep 9' was awaited. QEMU was killed by signal 9"):
        guest.succeed("sleep 9", seconds=3600)


def test_a_restart_that_nobody_expects(guest: Machine) -> None:
    with _told_soon(guest, MachineDiedError, "restarted although no restart was expected"):
        guest.succeed("echo b > /proc/sysrq-trigger", seconds=3600)


def test_a_console_that_is_lost_to_a_new_login(guest: Machine) -> None:
    with _told_soon(guest, ShellLostError, "another program"):
        guest.succeed("kill -9 $PPID", seconds=3600)


def test_a_command_that_hangs(guest: Machine) -> None:
    with pytest.raises(GuestCommandError, match="'sleep 9999' did not end within"):
        guest.succeed("sleep 9999", seconds=1)
    assert guest.succeed("echo alive") == "alive\n"


@pytest.mark.long
def test_a_guest_that_stands_still(guest: Machine) -> None:
    guest.qemu.monitor.execute("stop")
    with _told_soon(guest, ShellLostError, "nothing answers"):
        guest.succeed("true", seconds=1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("account", "said"),
    [(None, "no account"), (Login("root", "another word"), "refuses the account")],
)
def test_a_guest_that_never_logs_in(
    bootc_vm: MachineFactory, tiny_guest: TinyGuest, account: Login | None, said: str
) -> None:
    machine = bootc_vm(tiny_guest.disk, spec=tiny_guest.spec(login=account), boot=False)
    machine.start()
    machine.wait_for_console_text("tiny login:", seconds=300)
    with _told_soon(machine, WaitTimeoutError, said):
        machine.wait_for_shell(seconds=3600)
