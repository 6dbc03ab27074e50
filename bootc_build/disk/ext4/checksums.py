"""Checksums of ext4's metadata (the feature ``metadata_csum``). Pure.

What is summed up: the kernel's ``Documentation/filesystems/ext4/checksums.rst``.
"""

from typing import Final
from uuid import UUID

from bootc_build.disk.ext4.scan import BLOCK
from bootc_build.tools.e2fsprogs import crc32c

_ALL_ONES: Final = 0xFFFFFFFF
_IN_INODE: Final = (0x7C, 0x82)
_IN_ATTRIBUTES: Final = 16
_IN_SUPERBLOCK: Final = 0x3FC
_IN_DESCRIPTOR: Final = 0x1E
# An entry that is none: length, and a type that no file has.
_TAIL: Final = bytes((0, 0, 0, 0, 12, 0, 0, 0xDE))


class Sums:
    """Checksums of one file system."""

    def __init__(self, uuid: UUID) -> None:
        self._crc = crc32c()
        self._seed = self._crc(_ALL_ONES, uuid.bytes, 16)

    def inode(self, number: int, packed: bytes) -> bytes:
        """An inode with its checksum, given one with zeros in its place."""
        # Its generation, which is zero, comes after the number.
        summed = self._crc(self._seed, number.to_bytes(8, "little") + packed, 8 + len(packed))
        low, high = _IN_INODE
        return b"".join(
            (
                packed[:low],
                (summed & 0xFFFF).to_bytes(2, "little"),
                packed[low + 2 : high],
                (summed >> 16).to_bytes(2, "little"),
                packed[high + 2 :],
            )
        )

    def directory(self, number: int, content: bytes) -> bytes:
        """A directory's blocks with the checksum in each, for which there is room at its end."""
        return self._in_blocks(number, content, _TAIL)

    def extents(self, number: int, block: bytes) -> bytes:
        """A block of an inode's list of extents with its checksum at the end."""
        return self._in_blocks(number, block, b"")

    def _in_blocks(self, number: int, content: bytes, tail: bytes) -> bytes:
        seed = self._crc(self._seed, number.to_bytes(8, "little"), 8)
        found = []
        for at in range(0, len(content), BLOCK):
            part = content[at : at + BLOCK - 4 - len(tail)]
            found += [part, tail, self._crc(seed, part, len(part)).to_bytes(4, "little")]
        return b"".join(found)

    def attributes(self, place: int, block: bytes) -> bytes:
        """A block of attributes with its checksum."""
        seed = self._crc(self._seed, place.to_bytes(8, "little"), 8)
        summed = self._crc(seed, block, len(block)).to_bytes(4, "little")
        return block[:_IN_ATTRIBUTES] + summed + block[_IN_ATTRIBUTES + 4 :]

    def bitmap(self, bits: bytes) -> int:
        """The checksum of a bitmap, which is kept in the group's descriptor."""
        return self._crc(self._seed, bits, len(bits))

    def descriptor(self, group: int, packed: bytes) -> bytes:
        """A group's descriptor with its checksum."""
        blank = packed[:_IN_DESCRIPTOR] + bytes(2) + packed[_IN_DESCRIPTOR + 2 :]
        summed = self._crc(self._seed, group.to_bytes(4, "little") + blank, 4 + len(blank))
        half = (summed & 0xFFFF).to_bytes(2, "little")
        return blank[:_IN_DESCRIPTOR] + half + blank[_IN_DESCRIPTOR + 2 :]

    def superblock(self, packed: bytes) -> bytes:
        """A superblock with its checksum."""
        part = packed[:_IN_SUPERBLOCK]
        return part + self._crc(_ALL_ONES, part, len(part)).to_bytes(4, "little")
