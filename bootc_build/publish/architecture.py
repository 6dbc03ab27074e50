"""Which architecture a raw disk is made for, by its partition table and by what UEFI starts from it.

Sources: the UEFI specification (GPT; 3.5.1.1, removable media boot behaviour), the Discoverable Partitions
Specification.
"""

import stat
from pathlib import Path
from typing import Final
from uuid import UUID

from bootc_build.onhost.errors import UserError
from bootc_build.publish.snapshot import volume_gib
from bootc_build.tools import vhd
from bootc_build.tools.gpt import COPY_AGAIN, GptPartition, read_gpt
from bootc_build.tools.mtools import FatVolume
from bootc_build.tools.sizes import in_words

_LARGEST_GIB: Final = 16 * 1024
# Root partitions -> EC2's name of the architecture.
_ROOTS: Final = {
    UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "x86_64",
    UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"): "arm64",
}
_ESP: Final = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
# What UEFI starts from a disk that it knows nothing of.
_PROGRAMS: Final = {"EFI/BOOT/BOOTX64.EFI": "x86_64", "EFI/BOOT/BOOTAA64.EFI": "arm64"}
_MAKE_ONE: Final = "Make one with: bootc-build disk IMAGE --type ami"


def disk_architecture(disk: Path) -> str:
    """EC2's name of the architecture that a raw disk is made for.

    The type of the root partition says it; a root on a logical volume has none, so then the name of the program in
    the EFI system partition does.

    Raises:
        UserError: it is no raw disk, neither says it, or EC2 has no volume of its size.
    """
    partitions = _partitions(disk)
    for each in partitions:
        if each.type_id in _ROOTS:
            return _ROOTS[each.type_id]
    what = f"'{disk}' has no root partition of x86-64 or arm64 in its table"
    esp = next((each for each in partitions if each.type_id == _ESP), None)
    if esp is None:
        raise UserError(
            f"{what}, and no EFI system partition that would say which it is.", _MAKE_ONE
        )
    there = {name.upper() for name in FatVolume(disk, esp.start, esp.size, 0).names()}
    found = [name for name in _PROGRAMS if name in there]
    if len(found) == 1:
        return _PROGRAMS[found[0]]
    has = f"both {' and '.join(found)}" if found else f"neither {' nor '.join(_PROGRAMS)}"
    raise UserError(
        f"{what}, and its EFI system partition, which would say which it is, has {has}.", _MAKE_ONE
    )


def _partitions(disk: Path) -> tuple[GptPartition, ...]:
    try:
        kind = disk.stat().st_mode
        # Of a device the length is not told like a file's, and what was uploaded could not be noted beside it.
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise UserError(
                f"'{disk}' is a device, and only files are published.",
                f"Copy it: dd if={disk} of=disk.ami.raw bs=1M conv=sparse",
            )
        table = read_gpt(disk)
        length = disk.stat().st_size
        is_vhd = vhd.fixed_disk_bytes(disk) is not None
    except OSError as error:
        raise UserError(
            f"The disk '{disk}' cannot be read: {error.strerror}.", _MAKE_ONE
        ) from error
    if table is None or is_vhd:
        what = "a VHD, not a raw disk" if is_vhd else "no raw disk with a partition table"
        raise UserError(f"'{disk}' is {what}.", _MAKE_ONE)
    if table.faults:
        # What is damaged here does not boot there, and nobody would look for the fault here.
        raise UserError(f"'{disk}' is damaged. {' '.join(table.faults)}", COPY_AGAIN)
    if volume_gib(length) > _LARGEST_GIB:
        raise UserError(
            f"'{disk}' has {in_words(length)}; EC2's gp3 volumes end at 16 TiB.",
            "Make a smaller one; the root grows into the volume that it is started with.",
        )
    return table.partitions
