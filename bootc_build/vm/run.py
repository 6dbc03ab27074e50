"""One run of a machine, from power on to power off: QEMU, the console, the lane, and what QEMU tells by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from re import Pattern
from typing import Any

from bootc_build.vm.accel import Acceleration
from bootc_build.vm.argv import MemoryFile
from bootc_build.vm.block import IoErrors, WriteLog
from bootc_build.vm.console import Console
from bootc_build.vm.lane import Lane
from bootc_build.vm.process import QemuProcess
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.room import full_file_system
from bootc_build.vm.snapshot import Snapshot
from bootc_build.vm.spec import MachineSpec

# strerror() of ENOSPC and EDQUOT in QEMU's locale, which is ours to choose. The event's own `nospace` is set only
# for disks at whose errors the guest is stopped.
NO_SPACE = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True)
class Run:
    """What a machine is while it is on.

    Args:
        qemu: the process.
        console: the serial console.
        lane: the virtio serial port; None if the machine has none.
    """

    qemu: QemuProcess
    console: Console
    lane: Lane | None


@contextmanager
def power_on(
    spec: MachineSpec,
    acceleration: Acceleration,
    folder: Path,
    *,
    log: Path,
    expected: Sequence[Pattern[str]] = (),
    record: MachineRecord | None = None,
    memory: MemoryFile | None = None,
    snapshot: Snapshot | None = None,
) -> Iterator[Run]:
    """A machine that is on for the length of a block; at its end its power is cut.

    Args:
        spec: what it is made of.
        acceleration: how it is run.
        folder: the machine's own.
        log: of the console.
        expected: console lines that match one of these are no trouble; it may change while the machine runs.
        record: gets what it prints and what passes its monitor.
        memory: a file to be its RAM.
        snapshot: the state to be in, stopped, instead of the beginning of a boot.

    Raises:
        MachineError: QEMU does not start.
    """
    with (
        QemuProcess(spec, acceleration, folder, record, memory=memory, snapshot=snapshot) as qemu,
        Console(qemu.console, log=log, name=spec.name, expected=expected, record=record) as console,
    ):
        lane = Lane(qemu.lane, console, time_scale=acceleration.time_scale) if spec.lane else None
        run = Run(qemu, console, lane)
        qemu.monitor.listeners.append(partial(_note_event, run))
        if record is not None:
            record.mark("power on")
        try:
            yield run
        finally:
            if record is not None:
                record.mark("power off")


def _note_event(run: Run, event: dict[str, Any]) -> None:
    """What QEMU tells by itself and the rest has to know."""
    data = event.get("data", {})
    if event["event"] == "VSERPORT_CHANGE" and run.lane is not None:
        run.lane.note_port(is_open=bool(data.get("open")))
    if event["event"] == "BLOCK_IO_ERROR" and data.get("reason") in NO_SPACE:
        _note_full_disk(run)


def _note_full_disk(run: Run) -> None:
    """A disk's file cannot grow: to the guest it is an I/O error, which it tells late, if at all."""
    places = [disk.path for disk in run.qemu.disks]
    for one in run.qemu.filters:
        if isinstance(one, IoErrors):
            return  # It is a test that says so.
        if isinstance(one, WriteLog):
            places.append(one.path)
    fact = full_file_system(places) or f"QEMU finds no room for '{places[0]}' on this computer."
    run.console.report_trouble("no room for its disk", fact)
