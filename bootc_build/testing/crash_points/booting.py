"""Boot the states that a power cut may leave: what the looking predicts, a machine has to do."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.testing.crash_points.explore import Exploration, State
from bootc_build.testing.crash_points.record import Recording
from bootc_build.testing.crash_points.replay import Region, ReplayedDisk
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.crash_points.write_log import SECTOR
from bootc_build.tools.sparse import copy_range
from bootc_build.vm.machine import Machine
from bootc_build.vm.slots import Slots
from bootc_build.vm.spec import Disk, MachineSpec


@dataclass(frozen=True)
class BootResult:
    """What came of booting one state.

    Args:
        transaction: whose.
        point: the crash point's name.
        signature: of the state.
        problem: in words; empty when all is well.
        seconds: that the boot took.
    """

    transaction: str
    point: str
    signature: str
    problem: str
    seconds: float

    @property
    def good(self) -> bool:
        """It booted what was predicted, and kept what it had to keep."""
        return not self.problem


def choose(states: Sequence[State], limit: int) -> list[State]:
    """The states that are booted: all, or at most so many, spread over the transaction, the first and last in it."""
    if limit <= 0:
        return []
    if len(states) <= limit:
        return list(states)
    if limit == 1:
        return [states[-1]]
    step = (len(states) - 1) / (limit - 1)
    return [states[round(number * step)] for number in range(limit)]


def boot_states(
    recording: Recording, found: Exploration, limit: int, scratch: Path
) -> list[BootResult]:
    """Boot distinct states of one transaction, each on a disk of its own.

    Args:
        recording: of the machine.
        found: what the exploration of the transaction found.
        limit: how many are booted at most.
        scratch: a folder with room for the disk.
    """
    results = []
    log = recording.log()
    with emptied(scratch) as folder:
        disk = folder / "disk.raw"
        copy_range(recording.base, disk)
        whole = Region("disk", 0, disk.stat().st_size // SECTOR)
        with ReplayedDisk({whole: disk}, log) as replay:
            for state in choose(found.states, limit):
                with replay.at(state.point):
                    begun = time.monotonic()
                    problem = _boot(recording, state, disk, folder)
                    results.append(
                        BootResult(
                            found.transaction,
                            state.point.name,
                            state.signature,
                            problem,
                            time.monotonic() - begun,
                        )
                    )
    return results


def _boot(recording: Recording, state: State, disk: Path, folder: Path) -> str:
    """Boot a disk, which stays as it is; what is wrong."""
    spec = MachineSpec(
        disks=(Disk.open(disk),), name="crash-point", firmware=recording.firmware, may_reboot=True
    )
    name = f"crash point {state.point.name}"
    with (
        Slots().claimed(name, cpus=spec.cpus, memory_mib=spec.memory_mib),
        Machine(spec, log=folder / f"{state.point.name}.log", folder=folder) as machine,
    ):
        try:
            machine.boot()
            return _check(machine, recording, state)
        except UserError as error:
            return str(error).splitlines()[0]


def _check(machine: Machine, recording: Recording, state: State) -> str:
    booted = machine.bootc.booted.checksum
    if booted != state.verdict.commit:
        return f"{str(booted)[:12]} booted, {state.verdict.commit[:12]} was expected"
    checks = [f"test -s /sysroot{path}" for path in recording.kept]
    checks.append("bootc internals fsck")
    for command in checks:
        done = machine.execute(command, seconds=900)
        if done.status != 0:
            return f"'{command}' failed: {(done.text + done.error_text).strip()[-300:]}"
    return ""
