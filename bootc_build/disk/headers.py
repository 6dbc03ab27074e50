"""What qemu-img makes up at random or takes from the clock in a disk file, replaced by what the disk decides.

Sources: VMware's "Virtual Disk Format 5.0" (the descriptor is text in the first sectors of a sparse extent) and
Microsoft's "Virtual Hard Disk Image Format Specification" (the footer is the last sector; big endian).
"""

import re
import struct
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.errors import UserError

_SECTOR = 512
_VMDK_MAGIC = b"KDMV"
# Magic, version, flags, capacity, grain size, descriptor's offset and size in sectors; little endian.
_VMDK_HEADER = struct.Struct("<4sIIQQQQ")
_CONTENT_ID = re.compile(rb"^CID=([0-9a-f]{1,8})$", re.MULTILINE)

_VHD_COOKIE = b"conectix"
_VHD_EPOCH = 946_684_800  # 2000-01-01 UTC, where a VHD's time begins
_VHD_TIME, _VHD_CHECKSUM, _VHD_UUID = 24, 64, 68


def fix_vmdk(file: Path, identity: UUID) -> None:
    """Set the content id of a VMDK with an embedded descriptor.

    Raises:
        UserError: the file is something else.
    """
    with file.open("r+b") as disk:
        header = disk.read(_VMDK_HEADER.size)
        magic, _version, _flags, _capacity, _grain, offset, sectors = _VMDK_HEADER.unpack(header)
        disk.seek(offset * _SECTOR)
        descriptor = disk.read(sectors * _SECTOR)
        if magic != _VMDK_MAGIC or not _CONTENT_ID.search(descriptor):
            raise _unknown("VMDK")
        text = descriptor.rstrip(b"\0")
        # 0xffffffff and 0xfffffffe have meanings of their own; the id is printed without leading zeros.
        content_id = identity.int % 0xFFFF_FFFD + 1
        text = _CONTENT_ID.sub(b"CID=%x" % content_id, text, count=1)
        disk.seek(offset * _SECTOR)
        disk.write(text.ljust(len(descriptor), b"\0"))


def fix_vhd(file: Path, identity: UUID, timestamp: int) -> None:
    """Set the time and the unique id of a fixed VHD.

    Args:
        file: the disk.
        identity: the new unique id.
        timestamp: seconds since 1970; what is before 2000 becomes 2000.

    Raises:
        UserError: the file is something else.
    """
    with file.open("r+b") as disk:
        disk.seek(-_SECTOR, 2)
        footer = bytearray(disk.read(_SECTOR))
        if not footer.startswith(_VHD_COOKIE):
            raise _unknown("VHD")
        struct.pack_into(">I", footer, _VHD_TIME, max(0, timestamp - _VHD_EPOCH))
        footer[_VHD_UUID : _VHD_UUID + 16] = identity.bytes
        struct.pack_into(">I", footer, _VHD_CHECKSUM, 0)
        # The one's complement of the sum of all bytes, the checksum itself taken as 0.
        struct.pack_into(">I", footer, _VHD_CHECKSUM, ~sum(footer) & 0xFFFF_FFFF)
        disk.seek(-_SECTOR, 2)
        disk.write(footer)


def _unknown(kind: str) -> UserError:
    return UserError(
        f"qemu-img wrote a {kind} whose header is not the known one.",
        "Use the qemu-img of Debian 12 or 13.",
    )
