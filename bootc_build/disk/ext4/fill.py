"""Put a folder's files into an empty ext4 file system: the order of the steps."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from bootc_build.disk.ext4 import allocate, attributes, directory, records
from bootc_build.disk.ext4.allocate import LOST_AND_FOUND, LOST_AND_FOUND_NAME, FreeBlocks
from bootc_build.disk.ext4.checksums import Sums
from bootc_build.disk.ext4.geometry import (
    Geometry,
    Volume,
    free_blocks,
    inode_places,
    read_geometry,
    write_usage,
)
from bootc_build.disk.ext4.scan import BLOCK, Node, ScannedTree
from bootc_build.onhost.errors import UserError
from bootc_build.tools import e2fsprogs
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.sizes import MIB

if TYPE_CHECKING:
    from hashlib import _Hash

_BUFFER: Final = 4 * MIB
_ZEROS: Final = memoryview(bytes(MIB))


@dataclass(frozen=True)
class Identity:
    """What makes a file system this one.

    Attributes:
        uuid: its UUID.
        hash_seed: of the indexes of its directories.
        label: its name.
        timestamp: seconds since the epoch, for its own times and for those that a folder cannot have.
    """

    uuid: UUID
    hash_seed: UUID
    label: str
    timestamp: int


class Witness(Protocol):
    """Whoever wants to see all contents on their way."""

    def begin(self, node: Node) -> "Sequence[_Hash]":
        """What is to see a file's bytes, in their order; holes are zeros."""

    def end(self, node: Node, digests: "Sequence[_Hash]") -> None:
        """The file's last byte was seen."""

    def finish(self) -> None:
        """All files that have contents were seen."""


class Ext4Image:
    """A file system whose metadata is complete; `write_contents` is what is left to do."""

    def __init__(self, slot: Ext4Slot, nodes: Sequence[Node]) -> None:
        self._slot = slot
        self._nodes = nodes

    def write_contents(
        self,
        on_written: Callable[[int], None] = lambda _end: None,
        witness: Witness | None = None,
    ) -> None:
        """Write the files' contents, front to back.

        Args:
            on_written: is told up to which byte of the disk everything is as it stays.
            witness: sees the contents.

        Raises:
            OSError: no space left, or something cannot be read.
            UserError: a file has changed.
        """
        with _opened(self._slot) as volume:
            writer = _Writer(volume, lambda end: on_written(self._slot.offset + end))
            for node in self._nodes:
                if stat.S_ISREG(node.mode) and node.extents:
                    digests = witness.begin(node) if witness else ()
                    writer.add(node, digests)
                    if witness:
                        witness.end(node, digests)
            writer.flush()
        if witness:
            witness.finish()


def make_ext4(slot: Ext4Slot, tree: ScannedTree, identity: Identity) -> Ext4Image:
    """Make a file system for the contents of a folder, complete but for the files' contents.

    Args:
        slot: where; the file must read as zeros there.
        tree: the folder; gets its numbers of inodes and blocks.
        identity: what makes it this one.

    Raises:
        MissingProgramError, CommandError: also when what was written is found to be wrong.
        UserError: the folder does not fit, or has what ext4 cannot keep.
    """
    e2fsprogs.make_empty_ext4(
        slot,
        uuid=identity.uuid,
        hash_seed=identity.hash_seed,
        label=identity.label,
        timestamp=identity.timestamp,
    )
    with _opened(slot) as volume:
        _write_metadata(volume, tree, identity, slot.size)
    e2fsprogs.index_directories(slot, identity.timestamp)
    return Ext4Image(slot, tree.nodes)


def _write_metadata(volume: Volume, tree: ScannedTree, identity: Identity, size: int) -> None:
    geometry, sums = read_geometry(volume), Sums(identity.uuid)
    nodes = _with_lost_and_found(tree, volume, geometry, identity.timestamp)
    last_inode = allocate.number(nodes)
    if last_inode > geometry.inodes:
        raise UserError(
            f"A file system of {size // MIB} MiB has {geometry.inodes} inodes, and the image has {last_inode} files "
            "and folders.",
            "Give it more space, for example by --size.",
        )
    free = FreeBlocks(free_blocks(volume, geometry))
    inside: dict[int, bytes] = {}
    outside: dict[int, bytes] = {}
    try:
        for node in nodes:
            if node.xattrs:
                inside[node.number], outside[node.number] = _attributes(node)
            allocate.place_metadata(node, free, outside.get(node.number, b""))
        for node in nodes:
            allocate.place_content(node, free)
    except allocate.OutOfBlocksError:
        raise UserError(
            f"The contents do not fit into a file system of {size // MIB} MiB.",
            "Give it more space, for example by --size.",
        ) from None
    _set_sizes(nodes)
    inodes = [
        sums.inode(
            node.number,
            records.inode(node, identity.timestamp, inside.get(node.number, b"")),
        )
        for node in sorted(nodes, key=lambda node: node.number)
    ]
    _write_inodes(volume, geometry, inodes, last_inode)
    for node in nodes:
        _write_blocks(volume, sums, node, outside.get(node.number, b""))
    _write_directories(volume, sums, tree.root)
    folders = [node.number for node in nodes if stat.S_ISDIR(node.mode)]
    write_usage(
        volume, geometry, sums, last_block=free.last, last_inode=last_inode, folders=folders
    )


def _with_lost_and_found(
    tree: ScannedTree, volume: Volume, geometry: Geometry, timestamp: int
) -> list[Node]:
    """All nodes; the root and the folder for what e2fsck finds have their numbers, and the blocks that mke2fs gave them."""
    root = tree.root
    named = dict(root.names)
    lost = named.get(LOST_AND_FOUND_NAME)
    nodes = list(tree.nodes)
    if lost is None:
        lost = Node(LOST_AND_FOUND_NAME, stat.S_IFDIR | 0o700, 0, 0, mtime=timestamp, links=2)
        root.names = sorted([*root.names, (LOST_AND_FOUND_NAME, lost)], key=lambda each: each[0])
        root.links += 1
        nodes.append(lost)
    elif not stat.S_ISDIR(lost.mode):
        raise UserError(f"{os.fsdecode(lost.path)} is not a folder, and every ext4 has one there.")
    for node, number in ((root, allocate.ROOT), (lost, LOST_AND_FOUND)):
        node.number = number
        ((_, _, at),) = inode_places(geometry, number, number)
        made = volume.read(0, records.INODE_SIZE, skip=at)
        node.extents = list(records.extents_of(made))
    return nodes


def _attributes(node: Node) -> tuple[bytes, bytes]:
    try:
        return attributes.encode(node.xattrs, records.ATTRIBUTE_ROOM)
    except attributes.TooLargeError:
        raise UserError(
            f"The extended attributes of {os.fsdecode(node.path)} take more than ext4 has room for ({BLOCK} bytes).",
            "Remove some of them (setfattr -x).",
        ) from None


def _set_sizes(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if stat.S_ISDIR(node.mode):
            node.size = sum(count for _, _, count in node.extents) * BLOCK
        elif node.links > records.MOST_LINKS:
            raise UserError(
                f"{os.fsdecode(node.path)} has {node.links} names, and ext4 has room for {records.MOST_LINKS}.",
                "Use btrfs or xfs for that file system.",
            )


def _write_inodes(
    volume: Volume, geometry: Geometry, inodes: Sequence[bytes], last_inode: int
) -> None:
    # The root's stands apart; the others are in a row.
    ((_, _, at),) = inode_places(geometry, allocate.ROOT, allocate.ROOT)
    volume.write(0, inodes[0], skip=at)
    table = memoryview(b"".join(inodes[1:]))
    for first, count, at in inode_places(geometry, LOST_AND_FOUND, last_inode):
        begin = (first - LOST_AND_FOUND) * records.INODE_SIZE
        volume.write(0, table[begin : begin + count * records.INODE_SIZE], skip=at)


def _write_blocks(volume: Volume, sums: Sums, node: Node, outside: bytes) -> None:
    """Blocks of attributes, long links and lists of extents."""
    if outside:
        volume.write(node.attribute_block, sums.attributes(node.attribute_block, outside))
    if stat.S_ISLNK(node.mode) and node.extents:
        volume.write(node.extents[0][1], node.target)
    for block, content in zip(node.tree_blocks, records.leaves(node), strict=True):
        volume.write(block, sums.extents(node.number, content))


def _write_directories(volume: Volume, sums: Sums, root: Node) -> None:
    pending = [(root, root)]
    while pending:
        node, parent = pending.pop()
        entries = [(name, each.number, each.mode) for name, each in node.names]
        encoded = directory.encode(node.number, parent.number, entries, node.size)
        content = memoryview(sums.directory(node.number, encoded))
        for logical, block, count in node.extents:
            volume.write(block, content[logical * BLOCK : (logical + count) * BLOCK])
        pending += ((each, node) for _, each in node.names if stat.S_ISDIR(each.mode))


class _Writer:
    """Gathers what lies side by side, and writes it in one piece."""

    def __init__(self, volume: Volume, on_written: Callable[[int], None]) -> None:
        self._volume = volume
        self._on_written = on_written
        self._buffer = memoryview(bytearray(_BUFFER))
        self._block = 0
        self._filled = 0

    def add(self, node: Node, digests: "Sequence[_Hash]") -> None:
        """Add a file."""
        descriptor = os.open(node.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        done = 0
        try:
            for extent in node.extents:
                _skip(digests, extent[0] * BLOCK - done)
                done = self._add(node, descriptor, extent, digests)
        finally:
            os.close(descriptor)
        _skip(digests, node.size - done)

    def _add(
        self,
        node: Node,
        descriptor: int,
        extent: tuple[int, int, int],
        digests: "Sequence[_Hash]",
    ) -> int:
        """Add a piece of a file; its end is returned."""
        logical, block, count = extent
        at = logical * BLOCK
        while count:
            if self._filled == _BUFFER or self._block + self._filled // BLOCK != block:
                self.flush()
                self._block = block
            part = min(count * BLOCK, _BUFFER - self._filled)
            space = self._buffer[self._filled : self._filled + part]
            wanted = min(part, node.size - at)
            _read(descriptor, space[:wanted], at, node)
            for digest in digests:
                digest.update(space[:wanted])
            if wanted < part:
                space[wanted:] = bytes(part - wanted)
            self._filled += part
            at, block, count = at + part, block + part // BLOCK, count - part // BLOCK
        return min(at, node.size)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._filled:
            self._volume.write(self._block, self._buffer[: self._filled])
            self._on_written(self._block * BLOCK + self._filled)
            self._filled = 0


def _skip(digests: "Sequence[_Hash]", length: int) -> None:
    """A hole."""
    for at in range(0, length, len(_ZEROS)):
        for digest in digests:
            digest.update(_ZEROS[: length - at])


def _read(descriptor: int, space: memoryview, at: int, node: Node) -> None:
    while space:
        done = os.preadv(descriptor, [space], at)
        if not done:
            raise UserError(f"{os.fsdecode(node.path)} became shorter while it was read.")
        space, at = space[done:], at + done


@contextmanager
def _opened(slot: Ext4Slot) -> Iterator[Volume]:
    descriptor = os.open(slot.disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield Volume(descriptor, slot.offset)
    finally:
        os.close(descriptor)
