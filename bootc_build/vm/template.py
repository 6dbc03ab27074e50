"""Bring a machine up from a snapshot, which is made by its own first boot if there is none.

What decides whether a boot is kept: the console showed no trouble, and the boot came to its end. Units that have
failed by then are no reason to throw it away, because they are what tests look at: they have failed in every
machine that is restored, and the snapshot's facts name them.
"""

import time
from pathlib import Path

from bootc_build.onhost.process import run
from bootc_build.tools.shelf import Shelf
from bootc_build.vm.argv import MemoryFile
from bootc_build.vm.errors import GuestCommandError, MachineError
from bootc_build.vm.machine import BOOT_SECONDS, Machine
from bootc_build.vm.snapshot import DamagedSnapshotError, Facts, Snapshot, snapshot_key

_SETTLE_SECONDS = 120.0
_SETTLE = "command -v systemctl >/dev/null && systemctl is-system-running --wait; true"


class _UnsettledError(Exception):
    """The boot did not come to its end; the machine runs."""


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
