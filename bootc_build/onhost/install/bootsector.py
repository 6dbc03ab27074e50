"""GRUB for BIOS without ``grub-install``: where the first sectors find the rest.

The firmware loads the disk's first sector (GRUB's ``boot.img``), that loads the first sector of
``core.img``, and that loads the remaining sectors by a block list that it carries. ``grub-install`` writes
these places from what it finds on a mounted device; here they are known beforehand. The offsets are those
of GRUB's ``include/grub/i386/pc/boot.h`` and of ``boot/i386/pc/diskboot.S``.
"""

import os
import struct
from pathlib import Path

from bootc_build.onhost.errors import UserError

SECTOR = 512

# The code ends where the disk's signature and the (protective) partition table begin.
MBR_CODE_BYTES = 440

_SIGNATURE = b"\x55\xaa"
_KERNEL_SECTOR = 0x5C
_DRIVE_CHECK = 0x66
_NOPS = b"\x90\x90"
# The block list grows downwards from the end of the sector; its first entry is the last 12 bytes.
_BLOCK_LIST = 0x1F4
_BLOCK = struct.Struct("<QHH")
_LOAD_SEGMENT = 0x0820
_MOST_SECTORS = 0xFFFF


def patch_boot_image(boot: bytes, core_sector: int) -> bytes:
    """The code for the disk's first sector (440 bytes) that goes on at ``core_sector``.

    Args:
        boot: GRUB's ``boot.img``.
        core_sector: where ``core.img`` begins on the disk.

    Raises:
        UserError: this is not a ``boot.img``.
    """
    if len(boot) != SECTOR or boot[-2:] != _SIGNATURE:
        raise UserError(
            "The image's boot/grub/i386-pc/boot.img is not a boot sector.",
            "Install the package grub-pc-bin in the image.",
        )
    code = bytearray(boot)
    struct.pack_into("<Q", code, _KERNEL_SECTOR, core_sector)
    # Without the jump here the code trusts the drive number that the firmware passes, as it should for
    # a hard disk.
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = _NOPS
    return bytes(code[:MBR_CODE_BYTES])


def patch_core_image(core: bytes, sector: int) -> bytes:
    """``core.img`` with the block list of a copy that lies in one piece from ``sector`` on.

    Returns:
        Whole sectors, the last one padded with zeros.

    Raises:
        UserError: this is not a ``core.img`` for BIOS disks.
    """
    sectors = -(-len(core) // SECTOR)
    if not 1 < sectors <= _MOST_SECTORS:
        raise UserError(f"The image's core.img has {len(core)} bytes: that cannot be loaded.")
    _start, _length, segment = _BLOCK.unpack_from(core, _BLOCK_LIST)
    if segment != _LOAD_SEGMENT:
        raise UserError(
            "The image's boot/grub/i386-pc/core.img is not made for BIOS disks.",
            "Make it with: grub-mkimage -O i386-pc",
        )
    image = bytearray(core.ljust(sectors * SECTOR, b"\0"))
    _BLOCK.pack_into(image, _BLOCK_LIST, sector + 1, sectors - 1, _LOAD_SEGMENT)
    return bytes(image)


def embed(grub: Path, device: Path, *, sector: int, room: int) -> None:
    """Write GRUB for BIOS to a disk: the code of its first sector, and ``core.img`` behind it.

    Args:
        grub: the directory with ``boot.img`` and ``core.img``.
        device: the whole disk.
        sector: where there is room for ``core.img``: the BIOS boot partition, or behind an MBR.
        room: bytes that are free there.

    Raises:
        UserError: the files are not GRUB's, or do not fit.
    """
    core = patch_core_image((grub / "core.img").read_bytes(), sector)
    code = patch_boot_image((grub / "boot.img").read_bytes(), sector)
    if len(core) > room:
        raise UserError(
            f"GRUB's core.img has {len(core)} bytes, and there is room for {room} on {device}.",
            "Make the BIOS boot partition larger.",
        )
    descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # The core first: the boot sector must never point at half of it.
        os.pwrite(descriptor, core, sector * SECTOR)
        os.fsync(descriptor)
        os.pwrite(descriptor, code, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
