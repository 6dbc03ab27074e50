"""Where two disk files differ first, and what lies there: a file, an inode, a superblock, a partition table.

Formats: UEFI specification (GPT), the kernel's ``filesystems/ext4`` (ext4), Microsoft's FAT specification.
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from bootc_build.onhost.process import run
from bootc_build.tools import blkid, e2fsprogs, mtools, sfdisk
from bootc_build.tools.e2fsprogs import Ext4Slot

_CHUNK = 1 << 20
_SECTOR = 512
_ENTRY_BYTES = 128
_TABLE_SECTORS = 34
_BOOT_CODE_BYTES = 440
_EXT = ("ext2", "ext3", "ext4")
_SUPERBLOCK_AT, _SUPERBLOCK_BYTES = 1024, 1024
_GROUP = re.compile(r"^Group (\d+): .*?(?=^Group \d+: |\Z)", re.MULTILINE | re.DOTALL)
_RANGE = re.compile(
    r"(Primary superblock|Backup superblock|Group descriptors|Reserved GDT blocks|Block bitmap|"
    r"Inode bitmap|Inode table) at (\d+)(?:-(\d+))?"
)
_SPECIAL_INODES = {7: "the reserved group descriptors", 8: "the journal"}


def first_difference(one: Path, other: Path) -> int | None:
    """The first byte that two files do not have in common; None when they are the same. Holes are not read."""
    with one.open("rb") as first, other.open("rb") as second:
        sizes = [os.fstat(file.fileno()).st_size for file in (first, second)]
        at = 0
        while at < max(sizes):
            at = min(_data_from(file.fileno(), at, max(sizes)) for file in (first, second))
            pieces = [os.pread(file.fileno(), _CHUNK, at) for file in (first, second)]
            if pieces[0] != pieces[1]:
                return at + _first_unequal(*pieces)
            at += max(_CHUNK if not pieces[0] else len(pieces[0]), 1)
        return None if sizes[0] == sizes[1] else min(sizes)


def describe(disk: Path, offset: int) -> str:
    """What lies at a byte of a raw disk.

    Raises:
        MissingProgramError.
    """
    table = sfdisk.read_table(disk)
    if table is None:
        return f"byte {offset}, of a disk without a partition table"
    if (found := _table_part(disk, offset)) is not None:
        return found
    for part in table.partitions:
        if part.start <= offset < part.start + part.size:
            inside = offset - part.start
            named = f"partition {part.number}" + (f" ({part.name})" if part.name else "")
            return f"{named}, {_inside(disk, part, inside)}"
    return f"byte {offset}, between the partitions"


def _data_from(descriptor: int, at: int, end: int) -> int:
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:  # only holes follow, or the file ends
        return end


def _first_unequal(one: bytes, other: bytes) -> int:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _table_part(disk: Path, offset: int) -> str | None:
    sector, last = offset // _SECTOR, disk.stat().st_size // _SECTOR - 1
    if sector == 0:
        code = offset < _BOOT_CODE_BYTES
        return "the boot code in the first sector" if code else "the protective MBR"
    if sector == 1:
        return "the GPT's header"
    if sector == last:
        return "the GPT's second header"
    if sector < _TABLE_SECTORS:
        return f"entry {(offset - 2 * _SECTOR) // _ENTRY_BYTES + 1} of the GPT"
    if sector > last - _TABLE_SECTORS + 1:
        first = (last - _TABLE_SECTORS + 2) * _SECTOR
        return f"entry {(offset - first) // _ENTRY_BYTES + 1} of the second GPT"
    return None


def _inside(disk: Path, part: sfdisk.ListedPartition, offset: int) -> str:
    found = blkid.probe(disk, part.start, part.size)
    kind = "no file system" if found is None else found.kind
    if kind in _EXT:
        return f"{kind}, {_in_ext4(Ext4Slot(disk, part.start, part.size), offset)}"
    if kind == "vfat":
        return f"FAT, {_in_fat(disk, part, offset)}"
    return f"{kind}, byte {offset}"


def _in_ext4(slot: Ext4Slot, offset: int) -> str:
    if _SUPERBLOCK_AT <= offset < _SUPERBLOCK_AT + _SUPERBLOCK_BYTES:
        return f"byte {offset - _SUPERBLOCK_AT} of the superblock"
    fields = e2fsprogs.superblock(slot)
    block = offset // int(fields["Block size"])
    text = run(["dumpe2fs", slot.device]).stdout
    for group in _GROUP.finditer(text):
        for what, first, last in _RANGE.findall(group[0]):
            if int(first) <= block <= int(last or first):
                if what != "Inode table":
                    return f"{what.lower()} of group {group[1]}"
                inside = offset - int(first) * int(fields["Block size"])
                index, byte = divmod(inside, int(fields["Inode size"]))
                inode = int(group[1]) * int(fields["Inodes per group"]) + index + 1
                return f"byte {byte} of the inode of {_name_of(slot, inode)}"
    owner = re.search(rf"^{block}\s+(\d+)$", _ask(slot, f"icheck {block}"), re.MULTILINE)
    if owner is None:
        return f"block {block}, which nothing uses"
    return f"content of {_name_of(slot, int(owner[1]))}"


def _name_of(slot: Ext4Slot, inode: int) -> str:
    if inode in _SPECIAL_INODES:
        return _SPECIAL_INODES[inode]
    found = re.search(rf"^{inode}\s+(/.*)$", _ask(slot, f"ncheck {inode}"), re.MULTILINE)
    return found[1] if found else f"inode {inode}"


def _ask(slot: Ext4Slot, request: str) -> str:
    return run(["debugfs", "-R", request, slot.device]).stdout


def _in_fat(disk: Path, part: sfdisk.ListedPartition, offset: int) -> str:
    with disk.open("rb") as file:
        sector = os.pread(file.fileno(), _SECTOR, part.start)
    bytes_per_sector, per_cluster, reserved, fats = struct.unpack_from("<HBHB", sector, 11)
    (fat_sectors,) = struct.unpack_from("<I", sector, 36)
    at = offset // bytes_per_sector
    if at < reserved:
        return f"byte {offset} of the reserved sectors"
    if at < reserved + fats * fat_sectors:
        return f"file allocation table {(at - reserved) // fat_sectors + 1}"
    cluster = (at - reserved - fats * fat_sectors) // per_cluster + 2
    volume = mtools.FatVolume(disk, part.start, part.size, 0)
    name = next((name for name in volume.names() if cluster in _clusters(volume, name)), None)
    return f"content of /{name}" if name else f"cluster {cluster}, of a folder or unused"


def _clusters(volume: mtools.FatVolume, name: str) -> Iterator[int]:
    for first, last in volume.clusters(name):
        yield from range(first, last + 1)
