"""How large mkfs.btrfs wants a file system to be that it fills from a folder.

It enlarges the file where it thinks that it needs more, and a file system that is larger than its partition cannot be
mounted. Its estimate is far from above: every name is an inode with three longest paths and a block, each hard link a
file of its own, and metadata are there twice. Source: ``btrfs_mkfs_size_dir`` and ``btrfs_min_dev_size`` of
btrfs-progs, which are alike from 6.2 (Debian 12) to 6.19.
"""

import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bootc_build.disk.ext4.scan import BLOCK, ScannedTree
from bootc_build.disk.plan import Contents
from bootc_build.disk.trees import Settled
from bootc_build.disk.wanted import Layout
from bootc_build.tools.sizes import MIB

_PATH_MAX: Final = 4096
# Of an empty one with single data, in chunks of 8 MiB, and metadata twice, in chunks of 32 MiB.
_EMPTY: Final = 109 * MIB
_DATA_CHUNK: Final = 8 * MIB
_METADATA_CHUNK: Final = 32 * MIB


def with_least(settled: Settled, layout: Layout) -> Contents:
    """What there is to store, with the least size of each file system that mkfs.btrfs fills."""
    extras = settled.extras
    least = {
        each.mountpoint: wanted_by_mkfs([extras[each.mountpoint]])
        for each in layout.extras
        if each.filesystem == "btrfs"
    }
    if layout.filesystem == "btrfs":
        inside = [extras[each.mountpoint] for each in layout.subvolumes if each.mountpoint != "/"]
        least["/"] = wanted_by_mkfs([settled.root, *inside], gathered=bool(layout.subvolumes))
    return replace(settled.contents, least=least)


def wanted_by_mkfs(trees: Sequence[ScannedTree], *, gathered: bool = False) -> int:
    """Bytes that mkfs.btrfs makes a file system that it fills with these trees, unless its file is larger.

    Args:
        trees: one, or more.
        gathered: they will be folders beside each other, in one more.
    """
    counts = [_count(tree) for tree in trees]
    names = sum(names for names, _bytes in counts) + gathered
    return estimate(names, sum(bytes_ for _names, bytes_ in counts))


def estimate(names: int, data: int) -> int:
    """The same by numbers.

    Args:
        names: of everything in the tree, with that of its top.
        data: bytes of files in whole blocks, once for each name.
    """
    metadata = names * (3 * _PATH_MAX + BLOCK) + data // 8
    beyond = _round_up(data, _DATA_CHUNK) - _DATA_CHUNK
    beyond_metadata = _round_up(metadata, _METADATA_CHUNK) - _METADATA_CHUNK
    return _EMPTY + max(0, beyond) + 2 * max(0, beyond_metadata)


def _count(tree: ScannedTree) -> tuple[int, int]:
    """Names in a tree, and bytes of its regular files in whole blocks, once for each name."""
    inside = [each for node in tree.nodes for _name, each in node.names]
    files = (each.size for each in inside if stat.S_ISREG(each.mode))
    return 1 + len(inside), sum(_round_up(size, BLOCK) for size in files)


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
