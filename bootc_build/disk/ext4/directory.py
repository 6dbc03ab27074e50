"""Directories as ext4 keeps them: entries in a row, none across the end of a block. Pure.

e2fsck gives those of several blocks their index afterwards. Format: ``ext4_dir_entry_2`` in the kernel's
``fs/ext4/ext4.h``.
"""

import stat
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from bootc_build.disk.ext4.scan import BLOCK

# At the end of each block there has to be room for the block's checksum.
_ROOM: Final = BLOCK - 12
_ENTRY: Final = struct.Struct("<IHBB")
_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
# Name, inode, mode.
Entry = tuple[bytes, int, int]


def blocks(names: Iterable[bytes]) -> int:
    """How many blocks a directory takes that has these names besides its own two."""
    count, used = 1, _length(b".") + _length(b"..")
    for name in names:
        length = _length(name)
        if used + length > _ROOM:
            count, used = count + 1, 0
        used += length
    return count


def encode(own: int, parent: int, entries: Iterable[Entry], size: int) -> bytes:
    """The content of a directory, with zeros for the checksums.

    Args:
        own: its inode's number.
        parent: that of the directory that it is in.
        entries: what is in it.
        size: bytes that it shall have; at least the blocks that it takes.
    """
    done: list[bytes] = []
    packed: list[Entry] = []
    used = 0
    for name, number, mode in _all(own, parent, entries):
        length = _length(name)
        if used + length > _ROOM:
            done.append(_block(packed))
            packed, used = [], 0
        packed.append((name, number, mode))
        used += length
    done.append(_block(packed))
    while len(done) * BLOCK < size:
        done.append(_ENTRY.pack(0, _ROOM, 0, 0).ljust(BLOCK, b"\0"))
    return b"".join(done)


def _all(own: int, parent: int, entries: Iterable[Entry]) -> Iterator[Entry]:
    yield b".", own, stat.S_IFDIR
    yield b"..", parent, stat.S_IFDIR
    yield from entries


def _block(entries: list[Entry]) -> bytes:
    found = []
    left = _ROOM
    for place, (name, number, mode) in enumerate(entries, 1):
        length = _length(name) if place < len(entries) else left
        left -= length
        entry = _ENTRY.pack(number, length, len(name), _TYPES[stat.S_IFMT(mode)]) + name
        found.append(entry.ljust(length, b"\0"))
    return b"".join(found).ljust(BLOCK, b"\0")


def _length(name: bytes) -> int:
    return _ENTRY.size + -(-len(name) // 4) * 4
