"""Which inode and which blocks a node gets: one after the other, in the order of the nodes. Pure."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from bootc_build.disk.ext4 import directory
from bootc_build.disk.ext4.geometry import OWN_INODES, Run
from bootc_build.disk.ext4.records import FAST_LINK, leaf_count
from bootc_build.disk.ext4.scan import Node
from bootc_build.onhost.errors import UserError

ROOT: Final = 2
# mke2fs makes it, and its blocks.
LOST_AND_FOUND: Final = OWN_INODES
LOST_AND_FOUND_NAME: Final = b"lost+found"
_MOST_IN_EXTENT: Final = 32768


class OutOfBlocksError(Exception):
    """There are not as many free blocks."""


class FreeBlocks:
    """Free blocks, handed out from the first to the last."""

    def __init__(self, free: Iterator[Run]) -> None:
        self._free = free
        self._start, self._length = 0, 0
        # The last one that was handed out.
        self.last = -1

    def take(self, count: int) -> Iterator[Run]:
        """So many blocks, in as few runs as there are.

        Raises:
            OutOfBlocksError: there are not as many.
        """
        while count:
            if not self._length:
                following = next(self._free, None)
                if following is None:
                    raise OutOfBlocksError
                self._start, self._length = following
            start, taken = self._start, min(count, self._length, _MOST_IN_EXTENT)
            self._start, self._length = start + taken, self._length - taken
            self.last = start + taken - 1
            count -= taken
            yield start, taken


def number(nodes: Sequence[Node]) -> int:
    """Give every node its inode's number; the last one is returned."""
    following = LOST_AND_FOUND
    for node in nodes:
        if not node.number:
            following += 1
            node.number = following
    return following


def place_metadata(node: Node, free: FreeBlocks, attributes: bytes) -> None:
    """Give a directory, a long link, and a list of attributes their blocks. Directories may have some already.

    Raises:
        OutOfBlocksError: the file system is too small.
        UserError: it is in too many pieces.
    """
    wanted = 0
    if stat.S_ISDIR(node.mode):
        wanted = directory.blocks(name for name, _ in node.names)
    elif stat.S_ISLNK(node.mode) and node.size >= FAST_LINK:
        wanted = 1
    _extend(node, 0, wanted, free)
    _list_extents(node, free)
    if attributes:
        ((node.attribute_block, _),) = free.take(1)


def place_content(node: Node, free: FreeBlocks) -> None:
    """Give a file its blocks, and those for the list of them.

    Raises:
        OutOfBlocksError: the file system is too small.
        UserError: it is in too many pieces.
    """
    for first, count in node.ranges:
        _extend(node, first, count, free)
    if node.ranges:
        _list_extents(node, free)


def _list_extents(node: Node, free: FreeBlocks) -> None:
    """Give a node the blocks for a list of extents that does not fit into its inode."""
    try:
        leaves = leaf_count(len(node.extents))
    except ValueError:
        raise UserError(
            f"{os.fsdecode(node.path)} is in more pieces than can be listed here.",
            "Copy it without holes (cp --sparse=never), or use btrfs or xfs for that file system.",
        ) from None
    node.tree_blocks = [start for _ in range(leaves) for start, _ in free.take(1)]


def _extend(node: Node, first: int, count: int, free: FreeBlocks) -> None:
    """Add blocks to a node from one of its own blocks on, behind those that it has there."""
    there = sum(each for _, _, each in node.extents) if not first else 0
    at = first + there
    for start, length in free.take(max(0, count - there)):
        node.extents.append((at, start, length))
        at += length
