"""Write an LVM2 volume group into a partition, without the device mapper and without root.

A physical volume begins with a label in its second sector and a metadata area, which holds the volume group's
description as text; the rest is extents. Volumes here are linear and lie one after another, so what is in one is
at one place of the disk: file systems are written there as into a partition.

Sources: the LVM2 manual pages (lvmsystemid(7), pvck(8), vgcfgbackup(8)) and the format that its tools print
(``pvck --dump headers``, ``vgcfgbackup``). Numbers are little-endian; offsets and sizes in bytes unless a name says
sectors (512 bytes) or extents.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

SECTOR: Final = 512
EXTENT: Final = 4 * 1024 * 1024
# Label, metadata area: extents begin here.
DATA_START: Final = 1024 * 1024
PARTITION_TYPE: Final = UUID("e6d6d379-f507-44c2-a23c-238f2a3df928")

_LABEL_AT: Final = SECTOR
_METADATA_AT: Final = 4096
_METADATA_SIZE: Final = DATA_START - _METADATA_AT
_TEXT_AT: Final = SECTOR  # in the metadata area
_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_CRC_START: Final = 0xF597A6CF
_HEADER: Final = struct.Struct("<16sIQQ")
_LOCATION: Final = struct.Struct("<QQII")
_GROUPS: Final = (6, 4, 4, 4, 4, 4, 6)


@dataclass(frozen=True)
class Volume:
    """A logical volume.

    Args:
        name: in its group.
        identifier: made into LVM's.
        first: its first extent.
        extents: how many it has.
    """

    name: str
    identifier: UUID
    first: int
    extents: int

    @property
    def offset(self) -> int:
        """Its first byte, in the partition."""
        return DATA_START + self.first * EXTENT

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.extents * EXTENT


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group on one physical volume.

    Args:
        name: of the group.
        identifier: of the group.
        physical: of the physical volume.
        size: bytes of its partition.
        volumes: in the order of their extents.
        timestamp: seconds since the epoch.
    """

    name: str
    identifier: UUID
    physical: UUID
    size: int
    volumes: Sequence[Volume]
    timestamp: int

    @property
    def extents(self) -> int:
        """How many there are."""
        return (self.size - DATA_START) // EXTENT

    def text(self) -> str:
        """The description, as vgcfgbackup(8) prints it but without indentation, which GRUB's reader does not take."""
        blocks = "".join(self._volume(each) for each in self.volumes)
        return (
            f'{self.name} {{\nid = "{lvm_id(self.identifier)}"\nseqno = 1\nformat = "lvm2"\n'
            'status = ["RESIZEABLE", "READ", "WRITE"]\nflags = []\n'
            f"extent_size = {EXTENT // SECTOR}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\n"
            "physical_volumes {\n\npv0 {\n"
            f'id = "{lvm_id(self.physical)}"\ndevice = ""\n\n'
            'status = ["ALLOCATABLE"]\nflags = []\n'
            f"dev_size = {self.size // SECTOR}\npe_start = {DATA_START // SECTOR}\n"
            f"pe_count = {self.extents}\n}}\n}}\n\n"
            f"logical_volumes {{\n{blocks}}}\n\n}}\n"
            'contents = "Text Format Volume Group"\nversion = 1\n\ndescription = ""\n\n'
            f'creation_host = "localhost"\ncreation_time = {self.timestamp}\n\n'
        )

    def _volume(self, volume: Volume) -> str:
        return (
            f'\n{volume.name} {{\nid = "{lvm_id(volume.identifier)}"\n'
            'status = ["READ", "WRITE", "VISIBLE"]\nflags = []\n'
            f'creation_time = {self.timestamp}\ncreation_host = "localhost"\n'
            "segment_count = 1\n\nsegment1 {\nstart_extent = 0\n"
            f"extent_count = {volume.extents}\n\n"
            'type = "striped"\nstripe_count = 1\n\n'
            f'stripes = [\n"pv0", {volume.first}\n]\n}}\n}}\n'
        )


def lvm_id(identifier: UUID) -> str:
    """An identifier as LVM writes it: 32 characters in seven groups."""
    digits, groups = identifier.hex, []
    for length in _GROUPS:
        groups.append(digits[:length])
        digits = digits[length:]
    return "-".join(groups)


def group_size(sizes: Sequence[int]) -> int:
    """Bytes of the smallest partition for volumes of these sizes; each takes whole extents."""
    return DATA_START + sum(-(-size // EXTENT) * EXTENT for size in sizes)


def write_group(group: VolumeGroup, disk: Path, start: int) -> None:
    """Make a partition a physical volume with a volume group.

    Args:
        group: what is in it.
        disk: a raw disk.
        start: first byte of the partition; its first MiB is empty.

    Raises:
        OSError.
    """
    text = group.text().encode() + b"\0"
    if _TEXT_AT + len(text) > _METADATA_SIZE:
        raise ValueError("the description of a volume group does not fit in its metadata area")
    with disk.open("r+b") as file:
        file.seek(start + _LABEL_AT)
        file.write(_label(group))
        file.seek(start + _METADATA_AT)
        file.write(_metadata_header(text))
        file.write(text)


def _label(group: VolumeGroup) -> bytes:
    # The physical volume's header: where its extents and its metadata area are, each list ended by zeros.
    header = lvm_id(group.physical).replace("-", "").encode() + struct.pack("<Q", group.size)
    header += struct.pack("<QQ", DATA_START, 0) + bytes(16)
    header += struct.pack("<QQ", _METADATA_AT, _METADATA_SIZE) + bytes(16)
    # The extension: version 2, flag 1 (in use), no boot loader area.
    header += struct.pack("<II", 2, 1) + bytes(16)
    summed = struct.pack("<I", 32) + b"LVM2 001" + header
    summed = summed.ljust(SECTOR - 20, b"\0")
    return b"LABELONE" + struct.pack("<QI", 1, _crc(summed)) + summed


def _metadata_header(text: bytes) -> bytes:
    location = _LOCATION.pack(_TEXT_AT, len(text), _crc(text), 0)
    header = _HEADER.pack(_MAGIC, 1, _METADATA_AT, _METADATA_SIZE) + location
    header = header.ljust(SECTOR - 4, b"\0")
    return struct.pack("<I", _crc(header)) + header


def _crc(data: bytes) -> int:
    # LVM's CRC-32 has zlib's polynomial, another start, and no inversion at the end.
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
