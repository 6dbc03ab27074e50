"""What a guest wrote to its disk and when it flushed, as QEMU's `blklogwrites` notes it. Pure but for the file.

The format is that of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst and
drivers/md/dm-log-writes.c), numbers little-endian: a sector with the super block (magic, version, number of
entries as u64, sector size as u32), then entry after entry: a sector with its header (sector, sectors, flags and
length of data as u64) and, for a write, as many sectors of data.

QEMU notes a request before it carries it out, so the log has the order in which the guest asked.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bootc_build.onhost.errors import UserError

SECTOR = 512
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_MAGIC = 0x6A736677736872
_VERSION = 1
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class Write:
    """One entry of the log.

    Args:
        sector: where on the disk, in sectors of 512 bytes.
        sectors: how many; 0 for a bare flush.
        flags: FLUSH, FUA, DISCARD, MARK.
        position: of its data in the log file, in bytes.
        end: where the next entry begins in the log file.
    """

    sector: int
    sectors: int
    flags: int
    position: int
    end: int

    @property
    def flushes(self) -> bool:
        """Everything before it is on the disk when it is done."""
        return bool(self.flags & FLUSH)

    @property
    def writes(self) -> bool:
        """It has data for the disk. What is discarded may read as anything, so it stays as it was."""
        return bool(self.sectors) and not self.flags & (DISCARD | MARK)


@dataclass(frozen=True)
class WriteLog:
    """A log that was read.

    Args:
        path: its file, which the data of the writes stay in.
        entries: in the order in which the guest asked for them.
    """

    path: Path
    entries: Sequence[Write]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a log; an entry that is cut off at its end, as by a killed QEMU, is left out.

        Raises:
            UserError: it is no such log, or cannot be read.
        """
        try:
            with path.open("rb") as file:
                head = file.read(_SUPER.size)
                sector_size = _check_super(path, head)
                size = path.stat().st_size
                entries = []
                position = sector_size
                while position < size:
                    file.seek(position)
                    entry = _parse(file.read(_ENTRY.size), position, sector_size)
                    if entry is None or entry.end > size:
                        break
                    entries.append(entry)
                    position = entry.end
        except OSError as error:
            raise UserError(f"The write log '{path}' cannot be read: {error.strerror}.") from error
        return cls(path, entries)

    def without_flushes(self) -> Self:
        """The same log of a disk that lies: it says that it has flushed, and has not."""
        kept = [replace(entry, flags=entry.flags & ~(FLUSH | FUA)) for entry in self.entries]
        return replace(self, entries=kept)

    def count_at(self, size: int) -> int:
        """How many entries the log had when its file had so many bytes."""
        return sum(entry.end <= size for entry in self.entries)

    def data(self, entries: Sequence[Write]) -> Iterator[tuple[Write, bytes]]:
        """Entries with what they write."""
        with self.path.open("rb") as file:
            for entry in entries:
                file.seek(entry.position)
                yield entry, file.read(entry.sectors * SECTOR)


def _check_super(path: Path, head: bytes) -> int:
    """The log's sector size in bytes."""
    if len(head) == _SUPER.size:
        magic, version, _count, sector_size = _SUPER.unpack(head)
        if magic == _MAGIC and version == _VERSION and sector_size >= SECTOR:
            return int(sector_size)
    raise UserError(
        f"'{path}' is no log of writes in the dm-log-writes format.",
        "Record one with QEMU's driver blklogwrites.",
    )


def _parse(head: bytes, position: int, sector_size: int) -> Write | None:
    if len(head) < _ENTRY.size or not any(head):
        return None
    sector, sectors, flags, _length = _ENTRY.unpack(head)
    factor = sector_size // SECTOR
    data = position + sector_size
    has_data = sectors and not flags & (DISCARD | MARK)
    end = data + (sectors * sector_size if has_data else 0)
    return Write(sector * factor, sectors * factor, flags, data, end)


def write_log(path: Path, entries: Sequence[tuple[int, bytes, int]]) -> WriteLog:
    """Make a log of one's own: of (sector, data, flags), with sectors of 512 bytes."""
    with path.open("wb") as file:
        file.write(_SUPER.pack(_MAGIC, _VERSION, len(entries), SECTOR).ljust(SECTOR, b"\0"))
        for sector, data, flags in entries:
            head = _ENTRY.pack(sector, len(data) // SECTOR, flags, len(data))
            file.write(head.ljust(SECTOR, b"\0") + data)
    return WriteLog.open(path)
