"""Bring a machine up from a snapshot, which is made by its own first boot if there is none.

What decides whether a boot is kept: the console showed no trouble, and the boot came to its end. Units that have
failed by then are no reason to throw it away, because they are what tests look at: they have failed in every
machine that is restored, and the snapshot's facts name them.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bootc_build.onhost.process import run
from bootc_build.tools.shelf import Shelf
from bootc_build.vm.accel import Accelerator, qemu_version
from bootc_build.vm.argv import MemoryFile
from bootc_build.vm.errors import (
    ConsoleBadnessError,
    EmulatorCrashError,
    GuestCommandError,
    MachineError,
)
from bootc_build.vm.machine import BOOT_SECONDS, Machine
from bootc_build.vm.snapshot import DamagedSnapshotError, Facts, Snapshot, snapshot_key, why_not

T = TypeVar("T")

_SETTLE_SECONDS = 120.0
_SETTLE = "command -v systemctl >/dev/null && systemctl is-system-running --wait; true"


# A kernel that calibrates its timer while the emulation gets no processor time.
_STARVED = re.compile(r"IO-APIC \+ timer doesn't work")


class _UnsettledError(Exception):
    """The boot did not come to its end; the machine runs."""


def bring_up(
    machine: Machine, shelf: Shelf, *, cold: bool = False, seconds: float = BOOT_SECONDS
) -> Snapshot | None:
    """Turn a new machine on, with a root shell: restored from a snapshot, or booted where none is to be used.

    Once more, where it is the emulation that failed.

    Args:
        machine: entered, and off.
        shelf: where snapshots are.
        cold: boot in any case.
        seconds: how long a boot may take (scaled).

    Returns:
        The snapshot, to be closed when the machine is gone; None if the machine has booted.

    Raises:
        MachineError: the machine does not boot.
    """
    return once_more(machine, lambda: _bring_up(machine, shelf, cold=cold, seconds=seconds))


def once_more(
    machine: Machine, turn_on: Callable[[], T], told: Callable[[str], None] = lambda _text: None
) -> T:
    """Turn a new machine on, and once more, with new disks, if the emulation failed.

    Emulation has faults of its own that strike a boot in some hundreds (QEMU 10 with two processors aborts
    while the guest maps its PCI devices), and on a busy machine it starves its guest. That says nothing about the
    guest, and a machine that has not been talked to yet has nothing to lose. The record has a mark of it.

    Args:
        machine: entered, and off.
        turn_on: turns it on.
        told: hears of a second try.

    Raises:
        MachineError: the machine does not boot.
    """
    try:
        return turn_on()
    except MachineError as error:
        if not _is_of_emulation(machine, error):
            raise
        machine.forget()
        if machine.record is not None:
            machine.record.mark(f"the emulation failed, once more: {error}")
        told("The emulation failed; once more")
        return turn_on()


def _bring_up(machine: Machine, shelf: Shelf, *, cold: bool, seconds: float) -> Snapshot | None:
    version = qemu_version(f"qemu-system-{machine.spec.architecture}")
    if cold or why_not(machine.spec, version) is not None:
        machine.boot(seconds=seconds)
        return None
    return restore_or_make(machine, shelf, seconds=seconds)


def _is_of_emulation(machine: Machine, error: MachineError) -> bool:
    if machine.acceleration.accelerator is not Accelerator.TCG:
        return False
    if any(disk.persist for disk in machine.spec.disks):
        return False  # What is written there is not ours to forget.
    starved = isinstance(error, ConsoleBadnessError) and _STARVED.search(str(error))
    return isinstance(error, EmulatorCrashError) or bool(starved)


def restore_or_make(
    machine: Machine, shelf: Shelf, *, seconds: float = BOOT_SECONDS
) -> Snapshot | None:
    """Turn a machine on, with a root shell: restored from its snapshot, or booted where none can be kept.

    Args:
        machine: entered, and off; `why_not` finds no reason against a snapshot of its spec.
        shelf: where snapshots are.
        seconds: how long the boot may take that makes one (scaled).

    Returns:
        The snapshot, to be closed when the machine is gone; None if the machine has booted: its boot never
        comes to an end, or its snapshot is damaged and still in use by others.

    Raises:
        MachineError: the machine does not boot, or a snapshot that was just made does not work.
    """
    key = snapshot_key(machine.spec, machine.acceleration)
    while True:
        made: list[Path] = []

        def make(place: Path, made: list[Path] = made) -> None:
            made.append(place)
            _make(machine, place, seconds)

        try:
            held = shelf.obtain(key, make)
        except _UnsettledError:
            return None
        try:
            snapshot = Snapshot.open(held)
            machine.restore(snapshot)
        except (MachineError, DamagedSnapshotError):
            held.close()
            machine.forget()
            if made:
                raise
            if not shelf.discard(key):
                machine.boot(seconds=seconds)
                return None
        except BaseException:
            held.close()
            raise
        else:
            return snapshot


def _make(machine: Machine, place: Path, seconds: float) -> None:
    begun = time.monotonic()
    machine.start(memory=MemoryFile(place / "memory", shared=True))
    machine.wait_for_shell(seconds=seconds)
    took = time.monotonic() - begun
    settled = _settle(machine)
    failed = machine.failed_units() if settled else []
    machine.succeed("sync")
    machine.console.check(now=True)
    lane = machine.has_lane
    lines = tuple((line.seconds, line.text) for line in machine.console.history)
    machine.qemu.save_state(place / "state")
    machine.console.note("kept as a snapshot")
    machine.hand_over(place)
    # Pages that the guest touched and left empty need no room; where this fails they only take it.
    run(["fallocate", "--dig-holes", str(place / "memory")], check=False, timeout=60)
    Snapshot.write(
        place,
        Facts(
            *(machine.spec.name, time.time(), took, settled, tuple(failed), lines),
            lane=lane,
        ),
    )


def _settle(machine: Machine) -> str:
    """Wait until the boot has finished; what systemd calls the outcome, or nothing without systemd."""
    try:
        state = machine.succeed(_SETTLE, seconds=_SETTLE_SECONDS).strip()
    except GuestCommandError:
        state = "starting"
    if state in {"starting", "initializing"}:
        machine.console.note("no snapshot: the boot does not come to its end")
        raise _UnsettledError
    return state
