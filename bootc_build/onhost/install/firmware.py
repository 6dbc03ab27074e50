"""Make a disk's firmware find the boot loader: first sectors for BIOS, the EFI system partition for UEFI.

The EFI system partition is written with mtools, so that neither a mount nor the kernel's vfat is needed;
where somebody mounted it, files were put there already.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import bootsector, device

_MTOOLS = {"MTOOLS_SKIP_CHECK": "1"}


def possible(disk: Path, *, esp_is_mounted: bool) -> tuple[str, ...]:
    """For which firmware a disk has room for a boot loader: ``bios``, ``uefi``."""
    table = device.partition_table(disk)
    if table is None:
        return ("uefi",) if esp_is_mounted else ()
    bios = ("bios",) if table.bios_room() else ()
    return (*bios, "uefi") if esp_is_mounted or table.esp() else bios


def choose(
    disk: Path, wanted: Sequence[str] | None, supported: Sequence[str], *, esp_is_mounted: bool
) -> tuple[str, ...]:
    """The boot loaders to install on a disk.

    Args:
        disk: the whole disk.
        wanted: what the user asked for; None for all that can be.
        supported: what the machine type has.
        esp_is_mounted: whether the EFI system partition is mounted at /boot/efi of the target.

    Raises:
        UserError: the disk has no room for one that is wanted, or for none at all.
    """
    can = [each for each in possible(disk, esp_is_mounted=esp_is_mounted) if each in supported]
    chosen = can if wanted is None else list(wanted)
    missing = next((each for each in chosen if each not in can), None)
    if missing is None and chosen:
        return tuple(chosen)
    need = {
        "bios": "a BIOS boot partition (or room before the first partition of an MBR)",
        "uefi": "an EFI system partition",
    }
    what = need[missing] if missing else " or ".join(need.values())
    raise UserError(
        f"{disk} lacks {what}, so no firmware would find the boot loader.",
        "Make the partition, install to another disk, or use --bootloader none.",
    )


def write(disk: Path, boot: Path, bootloaders: Sequence[str], *, esp_is_mounted: bool) -> None:
    """Write what the firmware reads.

    Args:
        disk: the whole disk.
        boot: /boot of the target, with the boot loader's files in it.
        bootloaders: ``bios``, ``uefi``.
        esp_is_mounted: the EFI system partition is at ``efi`` in it; else a plain directory that is copied.

    Raises:
        MissingProgramError, CommandError, UserError.
    """
    table = device.partition_table(disk)
    if "bios" in bootloaders:
        room = table.bios_room() if table else None
        if room is None:
            raise UserError(f"{disk} has no place for GRUB's core image.")
        bootsector.embed(boot / "grub/i386-pc", disk, sector=room[0], room=room[1])
    if "uefi" in bootloaders and not esp_is_mounted:
        partition = table.esp() if table else None
        if partition is None:
            raise UserError(f"{disk} has no EFI system partition.")
        copy_to_esp(boot / "efi", disk, partition)


def make_esp(disk: Path, partition: device.Partition, label: str = "EFI-SYSTEM") -> None:
    """Make an empty FAT32 file system in a partition.

    Raises:
        MissingProgramError, CommandError.
    """
    geometry = ["-T", str(partition.sectors), "-h", "255", "-s", "63"]
    # Two sectors a cluster: enough clusters to be FAT32 from 67 MiB on.
    process.run(
        ["mformat", *_drive(disk, partition), *geometry, "-F", "-c", "2", "-v", label, "::"],
        env=_MTOOLS,
    )


def copy_to_esp(tree: Path, disk: Path, partition: device.Partition) -> None:
    """Copy everything in a directory into a FAT file system, over what is there under the same names.

    Raises:
        MissingProgramError, CommandError.
    """
    entries = sorted(str(path) for path in tree.iterdir())
    if entries:
        copy = ["mcopy", *_drive(disk, partition), "-s", "-o", "-Q", *entries, "::/"]
        process.run(copy, env=_MTOOLS)
    with disk.open("r+b") as file:
        os.fsync(file.fileno())


def _drive(disk: Path, partition: device.Partition) -> tuple[str, str]:
    # By its place on the disk: a file has no devices for its partitions, and some kernels make none.
    return "-i", f"{disk}@@{partition.start * bootsector.SECTOR}"
