"""A disk on which the writes of a log are laid out one after the other, and taken back where they are only tried.

Each partition has a fingerprint: the sum of the hashes of all (sector, content) that differ from the disk before the
log. Equal content has an equal fingerprint, however it came about, so each state is looked at once.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bootc_build.testing.crash_points.points import CrashPoint
from bootc_build.testing.crash_points.write_log import SECTOR, WriteLog

_MODULUS = 1 << 128


@dataclass(frozen=True)
class Region:
    """A part of the disk, in sectors."""

    name: str
    start: int
    sectors: int

    def holds(self, sector: int) -> bool:
        """Whether a sector lies in it."""
        return self.start <= sector < self.start + self.sectors


class ReplayedDisk:
    """Files with regions of a disk, changed in place; a context manager.

    Args:
        files: a region's file, which begins with its first sector, in the state before the log. What the log writes
            to other places is left out.
        log: what is replayed.
    """

    def __init__(self, files: Mapping[Region, Path], log: WriteLog) -> None:
        self._files = files
        self._log = log
        self._position = 0
        self._base: dict[int, int] = {}
        self._now: dict[int, int] = {}
        self._sums = {region.name: 0 for region in files}
        self._stack = ExitStack()
        self._fds: dict[str, int] = {}
        self._log_fd = -1

    def __enter__(self) -> Self:
        for region, path in self._files.items():
            self._fds[region.name] = self._open(path, os.O_RDWR)
        self._log_fd = self._open(self._log.path, os.O_RDONLY)
        return self

    def _open(self, path: Path, flags: int) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        return fd

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def fingerprint(self, region: str) -> int:
        """Of what a region holds now."""
        return self._sums[region]

    def advance(self, count: int) -> None:
        """Have the first so many entries of the log on the disk; never fewer than before.

        Raises:
            ValueError: they are fewer.
        """
        if count < self._position:
            raise ValueError("a replay does not go back")
        for index in range(self._position, count):
            entry = self._log.entries[index]
            if entry.writes:
                self._write(entry.sector, self._read(index, 0, entry.sectors))
        self._position = count

    @contextmanager
    def at(self, point: CrashPoint) -> Iterator[None]:
        """The disk is in the state of a crash point inside; points come in the log's order."""
        self.advance(point.flushed)
        before: list[tuple[int, bytes]] = []
        try:
            for partial in point.partials:
                sector = self._log.entries[partial.index].sector + partial.first
                data = self._read(partial.index, partial.first, partial.sectors)
                before.append((sector, self._write(sector, data)))
            yield
        finally:
            for sector, data in reversed(before):
                self._write(sector, data)

    def _read(self, index: int, first: int, sectors: int) -> bytes:
        position = self._log.entries[index].position + first * SECTOR
        return os.pread(self._log_fd, sectors * SECTOR, position)

    def _write(self, sector: int, data: bytes) -> bytes:
        """Write to the region that a sector lies in; what was there before."""
        region = next((region for region in self._files if region.holds(sector)), None)
        if region is None:
            return data
        fd, position = self._fds[region.name], (sector - region.start) * SECTOR
        old = os.pread(fd, len(data), position)
        total = self._sums[region.name]
        for offset in range(0, len(data), SECTOR):
            number = sector + offset // SECTOR
            if number not in self._base:
                first = _hash(number, old[offset : offset + SECTOR])
                self._base[number] = self._now[number] = first
            new = _hash(number, data[offset : offset + SECTOR])
            base, before = self._base[number], self._now[number]
            total += (new if new != base else 0) - (before if before != base else 0)
            self._now[number] = new
        self._sums[region.name] = total % _MODULUS
        os.pwrite(fd, data, position)
        return old


def _hash(sector: int, data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=16, key=sector.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")
