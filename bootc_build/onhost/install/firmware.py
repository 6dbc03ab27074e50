"""Make a disk's firmware find the boot loader: first sectors for BIOS, the EFI system partition for UEFI.

The EFI system partition is written with mtools, so that neither a mount nor the kernel's vfat is needed;
where somebody mounted it, files were put there already.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import bootsector, device
from bootc_build.onhost.install.request import BootDisk
from bootc_build.onhost.install.underlying import Underlying

_MTOOLS = {"MTOOLS_SKIP_CHECK": "1"}
_NEED = {
    "bios": "a BIOS boot partition (or room before the first partition of an MBR)",
    "uefi": "an EFI system partition",
}


def possible(disk: Path, *, esp_is_mounted: bool) -> tuple[str, ...]:
    """For which firmware a disk has room for a boot loader: ``bios``, ``uefi``."""
    table = device.partition_table(disk)
    if table is None:
        return ("uefi",) if esp_is_mounted else ()
    bios = ("bios",) if table.bios_room() else ()
    return (*bios, "uefi") if esp_is_mounted or table.esp() else bios


@dataclass(frozen=True)
class Choice:
    """Which boot loaders are installed where.

    Attributes:
        bootloaders: for which firmware.
        disks: where something is written for it.
        warnings: disks that would not boot alone.
    """

    bootloaders: tuple[str, ...]
    disks: tuple[BootDisk, ...]
    warnings: tuple[str, ...] = ()


def choose(
    below: Underlying,
    wanted: Sequence[str] | None,
    supported: Sequence[str],
    *,
    esp_is_mounted: bool,
    esp_disks: Sequence[Path] = (),
) -> Choice:
    """Choose the boot loaders, and the disks that get them: each below /boot that has room.

    Args:
        below: what /boot stands on.
        wanted: what the user asked for; None for all that can be.
        supported: what the machine type has.
        esp_is_mounted: whether the EFI system partition is mounted at /boot/efi of the target.
        esp_disks: the disks that this is on.

    Raises:
        UserError: GRUB cannot read what /boot stands on; no disk has room for one that is wanted, or for none at all.
    """
    if not below.readable:
        raise UserError(
            f"/boot is on {below.device}, where GRUB would not find it: {below.obstacle}.",
            "Put /boot on a partition, an array of md or a plain logical volume; or install with "
            "--bootloader none, and a boot loader of your own.",
        )
    can = {
        disk: [each for each in possible(disk, esp_is_mounted=esp_is_mounted) if each in supported]
        for disk in below.disks
    }
    anywhere = {each for kinds in can.values() for each in kinds}
    if esp_is_mounted:
        anywhere.add("uefi")
    chosen = [each for each in supported if each in anywhere] if wanted is None else list(wanted)
    missing = next((each for each in chosen if each not in anywhere), None)
    if missing is not None or not chosen:
        raise _no_room(below, missing)
    disks = [
        BootDisk(disk, tuple(each for each in chosen if each in kinds))
        for disk, kinds in can.items()
    ]
    warnings = list(_warnings(disks, chosen, esp_disks if esp_is_mounted else None))
    if not disks and wanted is None and "bios" in supported:
        warnings.append(f"There is no boot loader for BIOS: {below.obstacle}")
    return Choice(tuple(chosen), tuple(disks), tuple(warnings))


def _no_room(below: Underlying, missing: str | None) -> UserError:
    if not below.disks:
        return UserError(
            f"There is no disk to write the boot loader to: {below.obstacle}.",
            "In a container, the host's devices are needed: --privileged -v /dev:/dev. With the EFI system partition "
            "mounted at /boot/efi, --bootloader-target uefi does without them.",
        )
    what = _NEED[missing] if missing else " or ".join(_NEED.values())
    names = " and ".join(map(str, below.disks))
    return UserError(
        f"{names} {'lacks' if len(below.disks) == 1 else 'lack'} {what}, so no firmware would find the boot loader.",
        "Make the partition, install to another disk, or use --bootloader none.",
    )


def _warnings(
    disks: Sequence[BootDisk], chosen: Sequence[str], esp_disks: Sequence[Path] | None
) -> Iterator[str]:
    """Of several disks, those that would not boot the machine if the others were gone."""
    for disk in disks if len(disks) > 1 else ():
        for kind in chosen:
            if kind not in disk.bootloaders:
                yield (
                    f"{disk.path} gets no boot loader for {kind.upper()}, as it lacks {_NEED[kind]}: "
                    "the machine does not boot from this disk alone"
                )
            elif kind == "uefi" and esp_disks is not None and disk.path not in esp_disks:
                yield (
                    f"{disk.path} gets no boot loader for UEFI, which goes to the EFI system partition that is mounted "
                    "at /boot/efi and to no other: the machine does not boot from this disk alone"
                )


def write(disk: BootDisk, boot: Path, *, esp_is_mounted: bool) -> None:
    """Write what the firmware reads.

    Args:
        disk: the whole disk, and for which firmware.
        boot: /boot of the target, with the boot loader's files in it.
        esp_is_mounted: the EFI system partition is at ``efi`` in it; else a plain directory that is copied.

    Raises:
        MissingProgramError, CommandError, UserError.
    """
    table = device.partition_table(disk.path)
    if "bios" in disk.bootloaders:
        room = table.bios_room() if table else None
        if room is None:
            raise UserError(f"{disk.path} has no place for GRUB's core image.")
        bootsector.embed(boot / "grub/i386-pc", disk.path, sector=room[0], room=room[1])
    if "uefi" in disk.bootloaders and not esp_is_mounted:
        partition = table.esp() if table else None
        if partition is None:
            raise UserError(f"{disk.path} has no EFI system partition.")
        copy_to_esp(boot / "efi", disk.path, partition)


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
