"""A GUID partition table as it lies on a disk: whether both of its copies are whole, and the disk too.

sfdisk works with one whole copy and says little of the other. Source: UEFI specification, chapter 5.3.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from bootc_build.tools.sizes import in_words

# What to do about a fault.
COPY_AGAIN: Final = (
    "Copy the file again, wholly, and compare its sha256 with the one in NAME.manifest.json; a table of which one "
    "copy is whole can be mended with gdisk."
)
_SECTOR = 512
_SIGNATURE = b"EFI PART"
# Signature, revision, header's bytes, its sum, reserved, own sector, the other copy's, first and last sector of
# partitions, disk's id, sector, number and bytes of the entries, their sum.
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQ")
# As many as anybody has: 128 of 128 bytes, and a wide margin.
_MOST_ENTRY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class GptPartition:
    """A partition: its type, and first byte and length in bytes."""

    type_id: UUID
    start: int
    size: int


@dataclass(frozen=True)
class Gpt:
    """What there is of a table.

    Attributes:
        partitions: in their order, by the first copy that is whole; empty where none is.
        faults: what is wrong with table or disk, a sentence each.
        cut_short: whether the disk ends before the table says.
    """

    partitions: tuple[GptPartition, ...]
    faults: tuple[str, ...]
    cut_short: bool


@dataclass(frozen=True)
class _Copy:
    other_sector: int
    last_usable: int
    entries: bytes
    entry_bytes: int


def read_gpt(disk: Path) -> Gpt | None:
    """The table of a raw disk; None where there is no trace of one.

    Raises:
        OSError.
    """
    with disk.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        size = file.seek(0, os.SEEK_END)
        last = size // _SECTOR - 1
        first = _copy(descriptor, 1)
        second_at = last
        # On a disk that was enlarged, the second copy still lies where the first one says.
        if first is not None and first.other_sector <= last:
            second_at = first.other_sector
        second = _copy(descriptor, second_at)
        if first is None and second is None and not _has_signature(descriptor, (1, last)):
            return None
    whole = first or second
    if whole is None:
        fault = "The partition table (GPT) is damaged; neither of its two copies is whole."
        return Gpt((), (fault,), cut_short=False)
    needed = (max(whole.last_usable, whole.other_sector) + 1) * _SECTOR
    cut_short = size < needed
    faults = []
    if cut_short:
        faults.append(
            f"The disk is cut short: it has {in_words(size)} ({size} bytes), and its partition table was made for "
            f"{in_words(needed)} ({needed} bytes)."
        )
    elif first is None:
        faults.append(
            "The first copy of the partition table (GPT) is damaged; the second one is whole."
        )
    elif second is None:
        faults.append(
            "The second copy of the partition table (GPT) is damaged; the first one is whole."
        )
    return Gpt(tuple(_partitions(whole)), tuple(faults), cut_short)


def _has_signature(descriptor: int, sectors: tuple[int, ...]) -> bool:
    return any(
        sector > 0 and os.pread(descriptor, len(_SIGNATURE), sector * _SECTOR) == _SIGNATURE
        for sector in sectors
    )


def _copy(descriptor: int, sector: int) -> _Copy | None:
    """The copy whose header is in a sector; None when header or entries are not whole."""
    data = os.pread(descriptor, _SECTOR, sector * _SECTOR) if sector > 0 else b""
    if not data.startswith(_SIGNATURE) or len(data) < _SECTOR:
        return None
    fields = _HEADER.unpack_from(data)
    length, total, own, other, last_usable = (fields[at] for at in (2, 3, 5, 6, 8))
    entries_at, count, entry_bytes, entries_total = fields[10:]
    # The sum is over the header with zeros in the sum's own place.
    summed = zlib.crc32(data[:16] + bytes(4) + data[20:length])
    if own != sector or not _HEADER.size <= length <= _SECTOR or summed != total:
        return None
    if entry_bytes < _ENTRY.size or count * entry_bytes > _MOST_ENTRY_BYTES:
        return None
    entries = os.pread(descriptor, count * entry_bytes, entries_at * _SECTOR)
    if len(entries) < count * entry_bytes or zlib.crc32(entries) != entries_total:
        return None
    return _Copy(other, last_usable, entries, entry_bytes)


def _partitions(copy: _Copy) -> Iterator[GptPartition]:
    for at in range(0, len(copy.entries), copy.entry_bytes):
        kind, _, first, last = _ENTRY.unpack_from(copy.entries, at)
        if any(kind):
            yield GptPartition(UUID(bytes_le=kind), first * _SECTOR, (last - first + 1) * _SECTOR)
