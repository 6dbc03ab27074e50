"""Inodes and lists of extents as ext4 keeps them. Pure; formats: the kernel's ``fs/ext4/ext4.h``, ``ext4_extents.h``."""

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from bootc_build.disk.ext4.scan import BLOCK, Node

INODE_SIZE: Final = 256
# A target that is shorter stands in the inode.
FAST_LINK: Final = 60
EXTENTS_IN_BLOCK: Final = (BLOCK - 12) // 12
_EXTENTS_IN_INODE: Final = 4
_EXTRA: Final = 32
ATTRIBUTE_ROOM: Final = INODE_SIZE - 128 - _EXTRA
_INODE: Final = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHHHHIIIIIII")
_HEADER: Final = struct.Struct("<HHHHI")
_EXTENT: Final = struct.Struct("<IHHI")
_INDEX: Final = struct.Struct("<IIHH")
_MAGIC: Final = 0xF30A
_IMMUTABLE, _EXTENTS = 0x10, 0x80000
# Of a file; of a directory with more subdirectories they are not counted.
MOST_LINKS: Final = 65000


def inode(node: Node, timestamp: int, attributes: bytes) -> bytes:
    """A node whose blocks are given.

    Args:
        node: the node.
        timestamp: seconds since the epoch, for all its times but the content's.
        attributes: what stands in the inode.
    """
    places, flags = _places(node)
    if node.immutable:
        flags |= _IMMUTABLE
    taken = sum(count for _, _, count in node.extents) + len(node.tree_blocks)
    sectors = (taken + bool(node.attribute_block)) * (BLOCK // 512)
    links = node.links
    if stat.S_ISDIR(node.mode) and links >= MOST_LINKS:
        links = 1
    now, later = _time(timestamp)
    mtime, mtime_later = _time(node.mtime)
    packed = _INODE.pack(
        node.mode,
        node.uid & 0xFFFF,
        node.size & 0xFFFFFFFF,
        now,
        now,
        mtime,
        0,
        node.gid & 0xFFFF,
        links,
        sectors & 0xFFFFFFFF,
        flags,
        0,
        places,
        0,
        node.attribute_block & 0xFFFFFFFF,
        node.size >> 32,
        0,
        sectors >> 32,
        node.attribute_block >> 32,
        node.uid >> 16,
        node.gid >> 16,
        0,
        0,
        _EXTRA,
        0,
        later,
        mtime_later,
        later,
        now,
        later,
        0,
        0,
    )
    return packed + attributes.ljust(ATTRIBUTE_ROOM, b"\0")


def leaves(node: Node) -> list[bytes]:
    """The content of a node's further blocks for its list of extents; none where that fits into the inode."""
    found = []
    if len(node.extents) > _EXTENTS_IN_INODE:
        for first in range(0, len(node.extents), EXTENTS_IN_BLOCK):
            part = node.extents[first : first + EXTENTS_IN_BLOCK]
            found.append(_list(part, EXTENTS_IN_BLOCK).ljust(BLOCK, b"\0"))
    return found


def leaf_count(extents: int) -> int:
    """How many further blocks a list of so many extents takes.

    Raises:
        ValueError: there are too many.
    """
    if extents <= _EXTENTS_IN_INODE:
        return 0
    count = -(-extents // EXTENTS_IN_BLOCK)
    if count > _EXTENTS_IN_INODE:
        raise ValueError(extents)
    return count


def extents_of(packed: bytes) -> Iterator[tuple[int, int, int]]:
    """The extents of an inode that has them all in itself, as mke2fs makes its own."""
    at = 40
    _, count, _, _, _ = _HEADER.unpack_from(packed, at)
    for place in range(count):
        logical, length, high, low = _EXTENT.unpack_from(packed, at + 12 + place * 12)
        yield logical, high << 32 | low, length


def _places(node: Node) -> tuple[bytes, int]:
    """What an inode says of its content, and its flags."""
    if stat.S_ISLNK(node.mode) and node.size < FAST_LINK:
        return node.target, 0
    if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        return _device(node.device), 0
    if not (stat.S_ISREG(node.mode) or stat.S_ISDIR(node.mode) or stat.S_ISLNK(node.mode)):
        return b"", 0
    if not node.tree_blocks:
        return _list(node.extents, _EXTENTS_IN_INODE), _EXTENTS
    packed = _HEADER.pack(_MAGIC, len(node.tree_blocks), _EXTENTS_IN_INODE, 1, 0)
    for place, block in enumerate(node.tree_blocks):
        logical = node.extents[place * EXTENTS_IN_BLOCK][0]
        packed += _INDEX.pack(logical, block & 0xFFFFFFFF, block >> 32, 0)
    return packed, _EXTENTS


def _list(extents: Sequence[tuple[int, int, int]], most: int) -> bytes:
    packed = _HEADER.pack(_MAGIC, len(extents), most, 0, 0)
    for logical, block, count in extents:
        packed += _EXTENT.pack(logical, count, block >> 32, block & 0xFFFFFFFF)
    return packed


def _device(number: int) -> bytes:
    major, minor = os.major(number), os.minor(number)
    if major < 256 and minor < 256:  # noqa: PLR2004 - a byte
        return struct.pack("<I", major << 8 | minor)
    return struct.pack("<II", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)


def _time(seconds: int) -> tuple[int, int]:
    """Seconds as 32 bits with a sign, and two bits that count up from 2038."""
    low = seconds & 0xFFFFFFFF
    signed = low - (1 << 32) if low & 1 << 31 else low
    return low, (seconds - signed) >> 32 & 3
