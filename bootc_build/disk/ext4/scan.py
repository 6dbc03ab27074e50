"""A folder as it will be in a file system: one node for each inode, in the order of paths.

In that order lie the contents on the disk. libostree's objects come late in it: each lies where the deployment has it,
beside its neighbours there.
"""

import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError

BLOCK: Final = 4096
# In files that are larger such pieces of zeros become holes.
_LARGE: Final = 1 << 20
_PIECE: Final = 1 << 16
_ZEROS: Final = bytes(_PIECE)


@dataclass(slots=True, eq=False)
class Node:
    """An inode to be.

    Attributes:
        path: where it is read from, by its first name.
        mode: type and permissions, as ``st_mode`` has them.
        uid: owner.
        gid: group.
        size: bytes of the content, or of a link's target.
        mtime: seconds since the epoch.
        device: of a device's file, as ``st_rdev`` has it.
        links: how many names it has so far; of a directory, with those in itself and in its folders.
        xattrs: name -> value.
        target: of a symbolic link.
        names: of a directory, what is in it, sorted.
        ranges: of a file, where there is content: first block and number of blocks; the rest is a hole.
        immutable: whether it shall have that flag.
        number: the inode's number, once there is one.
        extents: the blocks that it has: first block in the file, first on the disk, how many.
        tree_blocks: further blocks for the list of extents.
        attribute_block: a block for attributes; 0 for none.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int = 0
    mtime: int = 0
    device: int = 0
    links: int = 1
    xattrs: dict[str, bytes] = field(default_factory=dict)
    target: bytes = b""
    names: "list[tuple[bytes, Node]]" = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    immutable: bool = False
    number: int = 0
    extents: list[tuple[int, int, int]] = field(default_factory=list)
    tree_blocks: list[int] = field(default_factory=list)
    attribute_block: int = 0


@dataclass(frozen=True)
class ScannedTree:
    """A folder, read but for its files' contents.

    Attributes:
        nodes: each once; the folder itself is the first, and what is in a folder follows it.
        bytes: of whole blocks, what the contents take.
    """

    nodes: list[Node]
    bytes: int

    @property
    def root(self) -> Node:
        """The folder itself."""
        return self.nodes[0]


def scan(
    folder: Path,
    latest: int,
    *,
    immutable: AbstractSet[bytes] = frozenset(),
    timeless: bytes | None = None,
) -> ScannedTree:
    """Read a folder: names, owners, modes, times, attributes; hard links are kept, long rows of zeros become holes.

    Args:
        folder: the folder.
        latest: seconds since the epoch; what was changed later was changed then, so that "now" leaves no trace.
        immutable: paths of what shall have that flag, which no folder can have while it is filled.
        timeless: a folder below which nothing has a time: it is the beginning of the epoch.

    Raises:
        OSError: something cannot be read.
        UserError: something is there that no file system can have.
    """
    nodes: list[Node] = []
    known: dict[int, Node] = {}
    top = os.fsencode(folder)
    root = _node(top, os.lstat(top), latest)
    pending = [root]
    blocks = 0
    while pending:
        node = pending.pop()
        nodes.append(node)
        blocks += sum(count for _, count in node.ranges)
        if not stat.S_ISDIR(node.mode):
            continue
        blocks += 1
        node.links = 2
        node.immutable = node.path in immutable
        # What has other names elsewhere, too.
        without_time = timeless is not None and (node.path + b"/").startswith(timeless + b"/")
        found, new = [], []
        for name, path, status in _entries(node.path):
            inside = known.get(status.st_ino) if status.st_nlink > 1 else None
            if inside is None:
                inside = _node(path, status, latest)
                new.append(inside)
                if stat.S_ISDIR(inside.mode):
                    node.links += 1
                elif status.st_nlink > 1:
                    known[status.st_ino] = inside
            else:
                inside.links += 1
            if without_time:
                inside.mtime = min(inside.mtime, 0)
            found.append((name, inside))
        node.names = found
        pending += reversed(new)
    return ScannedTree(nodes, blocks * BLOCK)


def _entries(folder: bytes) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.path, entry) for entry in entries)
    for name, path, entry in found:
        yield name, path, entry.stat(follow_symlinks=False)


def _node(path: bytes, status: os.stat_result, latest: int) -> Node:
    mode = status.st_mode
    node = Node(path, mode, status.st_uid, status.st_gid, status.st_size)
    # Whole seconds: what is less has come from the machine's clock.
    node.mtime = min(int(status.st_mtime), latest)
    if stat.S_ISREG(mode):
        blocks = -(-node.size // BLOCK)
        if node.size > _LARGE:
            node.ranges = _content(path, status)
        elif blocks:
            node.ranges = [(0, blocks)]
    elif stat.S_ISLNK(mode):
        node.target = os.readlink(path)  # noqa: PTH115 - bytes
        node.size = len(node.target)
        if node.size >= BLOCK:
            raise UserError(f"The link {os.fsdecode(path)} leads to more than a path can be.")
    elif stat.S_ISDIR(mode):
        node.size = 0
    else:
        node.size, node.device = 0, status.st_rdev
    for name in os.listxattr(path, follow_symlinks=False):
        node.xattrs[name] = os.getxattr(path, name, follow_symlinks=False)
    return node


def _content(path: bytes, status: os.stat_result) -> list[tuple[int, int]]:
    """Where a large file has something: first block and number of blocks.

    By what is in it: what the file system that it comes from keeps as a hole changes from one machine to the other.
    """
    found: list[tuple[int, int]] = []
    size, at = status.st_size, 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sparse = status.st_blocks * 512 < size
        while at < size:
            if sparse:
                # A hole need not be read.
                at = max(at, _next_data(descriptor, at, size) // _PIECE * _PIECE)
            piece = os.pread(descriptor, _PIECE, at)
            if not piece:
                break
            if piece != _ZEROS[: len(piece)]:
                first, count = at // BLOCK, -(-len(piece) // BLOCK)
                if found and sum(found[-1]) == first:
                    first, count = found[-1][0], found.pop()[1] + count
                found.append((first, count))
            at += _PIECE
    finally:
        os.close(descriptor)
    return found


def _next_data(descriptor: int, at: int, size: int) -> int:
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:  # nothing but a hole
        return -(-size // _PIECE) * _PIECE
