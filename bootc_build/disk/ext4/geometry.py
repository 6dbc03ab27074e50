"""What mke2fs laid out: groups of blocks, which blocks and inodes are free; and the same after some were taken.

Formats: superblock and group descriptors of the kernel's ``fs/ext4/ext4.h``. Only for file systems as they come from
mke2fs, with blocks of 4096 bytes and descriptors of 64.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bootc_build.disk.ext4.checksums import Sums
from bootc_build.disk.ext4.records import INODE_SIZE
from bootc_build.disk.ext4.scan import BLOCK
from bootc_build.onhost.errors import UserError

_SUPERBLOCK_AT: Final = 1024
_MAGIC: Final = 0xEF53
_DESCRIPTOR: Final = 64
# What a descriptor says of the group's bitmaps: that they are not written, since next to nothing is used.
_FLAGS, _INODES_UNTOLD, _BLOCKS_UNTOLD = 0x12, 1, 2
# Of the file system itself; the last one is the folder for what e2fsck finds.
OWN_INODES: Final = 11
_FREE: Final = re.compile("0+")
# Where a superblock says how many are free: low and high half; inodes.
_FREE_BLOCKS, _FREE_BLOCKS_HIGH, _FREE_INODES = 0x0C, 0x158, 0x10
# First block and number of blocks.
Run = tuple[int, int]


class Volume:
    """A file system in a file, by numbers of blocks.

    Args:
        descriptor: of the file.
        offset: bytes in front of the file system.
    """

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset

    def read(self, block: int, size: int = BLOCK, *, skip: int = 0) -> bytes:
        """Bytes from a block on, after so many that are skipped."""
        return os.pread(self._descriptor, size, self._offset + block * BLOCK + skip)

    def write(self, block: int, data: bytes | memoryview, *, skip: int = 0) -> None:
        """Write bytes from a block on, after so many that are skipped.

        Raises:
            OSError: no space left.
        """
        at = self._offset + block * BLOCK + skip
        left = memoryview(data)
        while left:
            done = os.pwrite(self._descriptor, left, at)
            at, left = at + done, left[done:]


@dataclass(frozen=True)
class Group:
    """A group of blocks: where its own tables are."""

    block_bitmap: int
    inode_bitmap: int
    inode_table: int


@dataclass(frozen=True)
class Geometry:
    """A fresh file system.

    Attributes:
        superblock: its 1024 bytes.
        descriptors: of all groups, one after the other.
        groups: the groups.
        blocks_per_group: of the last group there may be fewer.
        inodes_per_group: as many in each.
    """

    superblock: bytes
    descriptors: bytes
    groups: Sequence[Group]
    blocks_per_group: int
    inodes_per_group: int

    @property
    def inodes(self) -> int:
        """How many there are."""
        return len(self.groups) * self.inodes_per_group


def read_geometry(volume: Volume) -> Geometry:
    """Read what mke2fs made.

    Raises:
        UserError: it is not of the known form.
    """
    superblock = volume.read(0, 1024, skip=_SUPERBLOCK_AT)
    magic, log_size = _number(superblock, 0x38, 2), _number(superblock, 0x18)
    inode_size, descriptor = _number(superblock, 0x58, 2), _number(superblock, 0xFE, 2)
    used = _number(superblock, 0x00) - _number(superblock, _FREE_INODES)
    found = magic, 1024 << log_size, inode_size, descriptor, used
    if found != (_MAGIC, BLOCK, INODE_SIZE, _DESCRIPTOR, OWN_INODES):
        raise UserError(
            f"mke2fs made a file system of an unknown form: blocks of {1024 << log_size} bytes, inodes of "
            f"{inode_size}, {used} of them used, descriptors of {descriptor}.",
            "Use the e2fsprogs of Debian 12 or later.",
        )
    blocks = _number(superblock, 0x04) | _number(superblock, 0x150) << 32
    per_group = _number(superblock, 0x20)
    descriptors = volume.read(1, -(-blocks // per_group) * _DESCRIPTOR)
    groups = []
    for number in range(-(-blocks // per_group)):
        low = struct.unpack_from("<III", descriptors, number * _DESCRIPTOR)
        high = struct.unpack_from("<III", descriptors, number * _DESCRIPTOR + 32)
        groups.append(Group(*(a | b << 32 for a, b in zip(low, high, strict=True))))
    return Geometry(superblock, descriptors, groups, per_group, _number(superblock, 0x28))


def free_blocks(volume: Volume, geometry: Geometry) -> Iterator[Run]:
    """The free blocks, in order; bitmaps are read as far as it is asked."""
    before: Run | None = None
    for number in range(len(geometry.groups)):
        bitmap = _block_bitmap(volume, geometry, number)
        # What there is not, behind the last block, is marked as used.
        digits = format(int.from_bytes(bitmap, "little"), f"0{len(bitmap) * 8}b")[::-1]
        for found in _FREE.finditer(digits):
            start = number * geometry.blocks_per_group + found.start()
            if before is not None and sum(before) == start:
                before = (before[0], before[1] + len(found[0]))
                continue
            if before is not None:
                yield before
            before = (start, len(found[0]))
    if before is not None:
        yield before


def write_usage(
    volume: Volume,
    geometry: Geometry,
    sums: Sums,
    *,
    last_block: int,
    last_inode: int,
    folders: Sequence[int],
) -> None:
    """Mark as used all blocks and all inodes up to the last ones, in every place that counts them.

    Args:
        volume: where.
        geometry: what was free before.
        sums: checksums of this file system.
        last_block: the last block that was taken; -1 for none.
        last_inode: the last inode's number.
        folders: the numbers of the inodes that are directories.
    """
    directories = [0] * len(geometry.groups)
    for number in folders:
        directories[(number - 1) // geometry.inodes_per_group] += 1
    descriptors, taken = [], 0
    for number in range(len(geometry.groups)):
        at = number * _DESCRIPTOR
        descriptor = bytearray(geometry.descriptors[at : at + _DESCRIPTOR])
        if number * geometry.blocks_per_group <= last_block:
            taken += _take_blocks(volume, geometry, sums, number, descriptor, last_block=last_block)
        used = last_inode - number * geometry.inodes_per_group
        used = max(0, min(used, geometry.inodes_per_group))
        if used:
            _take_inodes(volume, geometry, sums, number, descriptor, used=used)
            _set_halves(descriptor, 0x10, directories[number])
        descriptors.append(sums.descriptor(number, bytes(descriptor)))
    superblock = bytearray(geometry.superblock)
    free = _number(superblock, _FREE_BLOCKS) | _number(superblock, _FREE_BLOCKS_HIGH) << 32
    free -= taken
    struct.pack_into("<I", superblock, _FREE_BLOCKS, free & 0xFFFFFFFF)
    struct.pack_into("<I", superblock, _FREE_BLOCKS_HIGH, free >> 32)
    struct.pack_into("<I", superblock, _FREE_INODES, geometry.inodes - last_inode)
    # e2fsck brings the copies up to date.
    volume.write(0, sums.superblock(bytes(superblock)), skip=_SUPERBLOCK_AT)
    volume.write(1, b"".join(descriptors))


def _take_blocks(
    volume: Volume,
    geometry: Geometry,
    sums: Sums,
    group: int,
    descriptor: bytearray,
    *,
    last_block: int,
) -> int:
    """Mark a group's blocks up to the last one; how many of them were free is returned."""
    count = last_block + 1 - group * geometry.blocks_per_group
    bitmap = _block_bitmap(volume, geometry, group)
    marked = _with_bits(bitmap, min(count, geometry.blocks_per_group))
    taken = marked.bit_count() - int.from_bytes(bitmap, "little").bit_count()
    bits = marked.to_bytes(BLOCK, "little")
    volume.write(geometry.groups[group].block_bitmap, bits)
    _set_halves(descriptor, 0x0C, _halves(descriptor, 0x0C) - taken)
    _set_halves(descriptor, 0x18, sums.bitmap(bits[: geometry.blocks_per_group // 8]))
    descriptor[_FLAGS] &= ~_BLOCKS_UNTOLD
    return taken


def _take_inodes(
    volume: Volume, geometry: Geometry, sums: Sums, group: int, descriptor: bytearray, *, used: int
) -> None:
    count = geometry.inodes_per_group
    # Behind the last inode the rest of the block is marked.
    marked = (1 << used) - 1 | (1 << BLOCK * 8) - (1 << count)
    bits = marked.to_bytes(BLOCK, "little")
    volume.write(geometry.groups[group].inode_bitmap, bits)
    _set_halves(descriptor, 0x0E, count - used)
    _set_halves(descriptor, 0x1A, sums.bitmap(bits[: count // 8]))
    # Not used yet, as is the rest of the group.
    _set_halves(descriptor, 0x1C, count - used, high=0x32)
    descriptor[_FLAGS] &= ~_INODES_UNTOLD


def inode_places(geometry: Geometry, first: int, last: int) -> list[tuple[int, int, int]]:
    """Where inodes are: number of the first one, how many follow each other, and the byte of the file system."""
    found = []
    per_group = geometry.inodes_per_group
    while first <= last:
        group, index = divmod(first - 1, per_group)
        count = min(last - first + 1, per_group - index)
        table = geometry.groups[group].inode_table
        found.append((first, count, table * BLOCK + index * INODE_SIZE))
        first += count
    return found


def _block_bitmap(volume: Volume, geometry: Geometry, number: int) -> bytes:
    """A group's bitmap; one that mke2fs left out is made of what lies in the group."""
    group = geometry.groups[number]
    descriptor = geometry.descriptors[number * _DESCRIPTOR : (number + 1) * _DESCRIPTOR]
    if not descriptor[_FLAGS] & _BLOCKS_UNTOLD:
        return volume.read(group.block_bitmap)
    # Its own tables lie in another one: there is nothing but copies of the superblock and the descriptors.
    free = _halves(descriptor, 0x0C)
    return ((1 << geometry.blocks_per_group - free) - 1).to_bytes(BLOCK, "little")


def _with_bits(bitmap: bytes, count: int) -> int:
    return int.from_bytes(bitmap, "little") | (1 << count) - 1


def _number(data: bytes | bytearray, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _halves(data: bytes | bytearray, low: int) -> int:
    """A number of a descriptor; its high half stands 32 bytes behind."""
    return _number(data, low, 2) | _number(data, low + 0x20, 2) << 16


def _set_halves(data: bytearray, low: int, number: int, *, high: int | None = None) -> None:
    struct.pack_into("<H", data, low, number & 0xFFFF)
    struct.pack_into("<H", data, low + 0x20 if high is None else high, number >> 16)
