"""How much fits into a file system of a size, and how large one has to be. Pure; all in bytes.

The figures are from above: what a fresh file system of the size takes for itself, measured with mke2fs,
mkfs.btrfs and mkfs.xfs, and a little more.
"""

from collections.abc import Mapping
from typing import Final

from bootc_build.tools.sizes import GIB, MIB

# mke2fs's own steps: up to this size of the file system, a journal of that size.
_EXT4_JOURNALS: Final = (
    (128 * MIB, 4 * MIB),
    (GIB, 16 * MIB),
    (2 * GIB, 32 * MIB),
    (16 * GIB, 64 * MIB),
    (32 * GIB, 128 * MIB),
    (64 * GIB, 256 * MIB),
    (128 * GIB, 512 * MIB),
)
_EXT4_LARGEST_JOURNAL: Final = GIB
# The smallest file systems that are made here, and that mkfs makes.
SMALLEST: Final[Mapping[str, int]] = {"ext4": 8 * MIB, "btrfs": 256 * MIB, "xfs": 320 * MIB}


def capacity(filesystem: str, size: int) -> int:
    """Bytes of files, in whole blocks, that a fresh file system of a size holds; 0 where it is too small."""
    if size < SMALLEST[filesystem]:
        return 0
    if filesystem == "ext4":
        journals = (journal for limit, journal in _EXT4_JOURNALS if size < limit)
        # Inode tables take a 64th, in small ones a 16th; 1 % is kept for root; the rest is descriptors.
        inodes = size // (16 if size < 512 * MIB else 64)
        own = next(journals, _EXT4_LARGEST_JOURNAL) + inodes + size // 64 + MIB
    elif filesystem == "btrfs":
        # Metadata is there twice.
        own = size // 8 + 96 * MIB
    else:
        own = size // 32 + 96 * MIB
    return max(0, size - own)


def smallest_size(filesystem: str, contents: int) -> int:
    """Bytes of the smallest file system, in whole MiB, that holds so many bytes of files."""
    # Folders, extended attributes and indexes come on top of the blocks of files.
    wanted = contents + contents // 50
    low, high = SMALLEST[filesystem] // MIB, 2 * wanted // MIB + 2048
    while low < high:
        middle = (low + high) // 2
        if capacity(filesystem, middle * MIB) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low * MIB
