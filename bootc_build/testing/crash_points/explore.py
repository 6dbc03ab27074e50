"""Try every crash point of a transaction: lay it out, look at it, judge it, take it back."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bootc_build.onhost.errors import UserError
from bootc_build.testing.crash_points.boot_view import BootView, look_at_boot
from bootc_build.testing.crash_points.oracle import Observation, Reference, Verdict, judge
from bootc_build.testing.crash_points.points import CrashPoint, Kind, plan_points
from bootc_build.testing.crash_points.replay import Region, ReplayedDisk
from bootc_build.testing.crash_points.root_view import RootInspector, RootView
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.crash_points.write_log import SECTOR, WriteLog
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.ext4_inspection import mended
from bootc_build.tools.sfdisk import read_table
from bootc_build.tools.sizes import GIB
from bootc_build.tools.sparse import copy_range

BOOT, ROOT = "boot", "root"
_QUICK_BYTES = GIB


@dataclass(frozen=True)
class Transaction:
    """A part of a log that is explored.

    Args:
        name: such as "upgrade".
        start: index of its first entry.
        stop: index after its last.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class State:
    """One of the distinct states.

    Args:
        point: the first crash point that leads to it.
        signature: names it.
        verdict: on it.
    """

    point: CrashPoint
    signature: str
    verdict: Verdict


@dataclass
class Exploration:
    """What came out.

    Args:
        transaction: its name.
        seed: of the samples.
        points: how many crash points were tried.
        contents: on how many different contents of the disk.
        kinds: how many of each kind.
        epochs: how many flushes end one.
        states: the distinct ones, in the log's order.
        seconds: that it took.
        verdicts: signature -> how many points led there.
    """

    transaction: str
    seed: int
    points: int = 0
    contents: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def unbootable(self) -> int:
        """Crash points from which the machine would not start a whole system."""
        return sum(self.counts[one.signature] for one in self.states if one.verdict.unbootable)

    @property
    def violations(self) -> int:
        """Crash points where something else is wrong."""
        return sum(
            self.counts[one.signature]
            for one in self.states
            if one.verdict.violations and not one.verdict.unbootable
        )


class DiskStates:
    """The file systems of a disk, whose states are looked at; a context manager.

    Args:
        files: /boot's and the root's, of one's own, in the state before the log; they are written to.
        log: what the guest wrote.
        scratch: a folder of one's own.
        kept: paths of the root file system that have to stay as they are.
        trusting: contents of objects that the log does not write to are good; otherwise all are read.
    """

    def __init__(
        self,
        files: Mapping[Region, Path],
        log: WriteLog,
        scratch: Path,
        kept: Sequence[str] = (),
        *,
        trusting: bool = True,
    ) -> None:
        self.replay = ReplayedDisk(files, log)
        self._slots = {
            region.name: Ext4Slot(file, 0, region.sectors * SECTOR)
            for region, file in files.items()
        }
        self._scratch = scratch
        root = next(region for region in files if region.name == ROOT)
        written = {
            sector - root.start
            for entry in log.entries
            if entry.writes and root.holds(entry.sector)
            for sector in range(entry.sector, entry.sector + entry.sectors)
        }
        self._inspector = RootInspector(
            self._slots[ROOT], written, scratch, kept, trusting=trusting
        )
        self._boots: dict[int, tuple[BootView, BootView, tuple[str, ...]]] = {}
        self._roots: dict[tuple[int, tuple[str, ...]], tuple[RootView, tuple[str, ...]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.replay)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def look(self) -> Observation:
        """The present state; what was seen before is not looked at again."""
        loader, boot, damage = self._look_at_boot()
        entries = (*loader.entries, *boot.entries)
        links = tuple(sorted({one.deployment_link for one in entries if one.deployment_link}))
        key = (self.replay.fingerprint(ROOT), links)
        if key not in self._roots:
            with mended(self._slots[ROOT], self._scratch) as done:
                self._roots[key] = (self._inspector.look(links), done.complaints)
        root, more = self._roots[key]
        return Observation(loader, boot, root, damage + more)

    def _look_at_boot(self) -> tuple[BootView, BootView, tuple[str, ...]]:
        key = self.replay.fingerprint(BOOT)
        if key not in self._boots:
            with emptied(self._scratch) as folder:
                loader = look_at_boot(self._slots[BOOT], folder)
                with mended(self._slots[BOOT], self._scratch) as done:
                    boot = look_at_boot(self._slots[BOOT], folder)
                self._boots[key] = (loader, boot, done.complaints)
        return self._boots[key]


def find_regions(disk: Path) -> list[Region]:
    """The partitions with /boot and the root.

    Raises:
        UserError: there are none of these names.
    """
    table = read_table(disk)
    found = [
        Region(one.name, one.start // SECTOR, one.size // SECTOR)
        for one in (table.partitions if table else ())
        if one.name in {BOOT, ROOT}
    ]
    if {region.name for region in found} != {BOOT, ROOT}:
        raise UserError(
            f"The disk '{disk}' has no partitions named 'boot' and 'root'.",
            "Make it with: bootc-build disk IMAGE",
        )
    return found


def explore(
    base: Path,
    log: WriteLog,
    transaction: Transaction,
    *,
    samples: int,
    seed: int,
    scratch: Path,
    kept: Sequence[str] = (),
    told: Callable[[int, int, int], None] = lambda *_: None,
) -> Exploration:
    """Explore one transaction.

    Args:
        base: the raw disk before the log; a copy is made.
        log: of the writes since.
        transaction: the part that is explored.
        samples: crash points within epochs, at most.
        seed: for drawing them.
        scratch: a folder with room for the disk.
        kept: paths of the root file system that have to stay.
        told: is told how many points of how many were tried, and the number of distinct states.
    """
    begun = time.monotonic()
    [boot] = [region for region in find_regions(base) if region.name == BOOT]
    points = plan_points(
        log.entries,
        transaction.start,
        transaction.stop,
        samples=samples,
        seed=seed,
        closely=lambda write: boot.holds(write.sector),
    )
    result = Exploration(transaction.name, seed)
    contents = set()
    with ExitStack() as stack:
        disks = stack.enter_context(emptied(scratch))
        folder = stack.enter_context(emptied(_quick_folder(scratch)))
        reference = _reference(DiskStates(_split(base, disks), log, folder, kept), transaction)
        layout = stack.enter_context(ExitStack())
        states = None
        for number, point in enumerate(points, 1):
            if states is None:
                states = layout.enter_context(DiskStates(_split(base, disks), log, folder, kept))
            with states.replay.at(point):
                contents.add(tuple(states.replay.fingerprint(name) for name in (BOOT, ROOT)))
                seen = states.look()
            _count(result, point, seen, reference)
            if seen.damage:
                # Where file systems are beyond mending, what was tried to mend them is not surely undone.
                layout.close()
                states = None
            told(number, len(points), len(result.states))
    result.points, result.contents = len(points), len(contents)
    result.seconds = time.monotonic() - begun
    return result


def look_at_disk(disk: Path, scratch: Path, kept: Sequence[str] = ()) -> Observation:
    """Look at one raw disk, which stays as it is; the contents of all objects are read.

    Args:
        disk: as a power cut, or a shutdown, left it.
        scratch: a folder with room for the disk.
        kept: paths of the root file system that have to stay.
    """
    with emptied(scratch) as disks, emptied(_quick_folder(scratch)) as folder:
        nothing = WriteLog(disk, ())
        with DiskStates(_split(disk, disks), nothing, folder, kept, trusting=False) as states:
            return states.look()


def _quick_folder(otherwise: Path) -> Path:
    """Where small files are copied to again and again: in memory, if there is room for a few kernels."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is private
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _QUICK_BYTES:
        return memory
    return otherwise


def _split(base: Path, folder: Path) -> dict[Region, Path]:
    """New files with what the regions of a disk hold."""
    files = {}
    for region in find_regions(base):
        files[region] = folder / f"{region.name}.img"
        files[region].unlink(missing_ok=True)
        copy_range(base, files[region], start=region.start * SECTOR, size=region.sectors * SECTOR)
    return files


def _reference(states: DiskStates, transaction: Transaction) -> Reference:
    """The states before and after; for good."""
    with states:
        states.replay.advance(transaction.start)
        before = states.look()
        states.replay.advance(transaction.stop)
        return Reference(before, states.look())


def _count(result: Exploration, point: CrashPoint, seen: Observation, reference: Reference) -> None:
    signature = seen.signature
    result.kinds[point.kind] = result.kinds.get(point.kind, 0) + 1
    if signature not in result.counts:
        result.states.append(State(point, signature, judge(seen, reference)))
    result.counts[signature] = result.counts.get(signature, 0) + 1
