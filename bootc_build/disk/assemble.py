"""Write a disk file from a plan and the trees: every byte goes straight to its place, once."""

import os
from pathlib import Path

from bootc_build.disk.plan import DiskPlan, Partition, Role
from bootc_build.disk.trees import Trees
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install.bootsector import patch_boot_image, patch_core_image
from bootc_build.onhost.progress import Progress
from bootc_build.tools import e2fsprogs, sfdisk
from bootc_build.tools.mtools import FatVolume

BOOT_LABEL = "boot"
ROOT_LABEL = "root"
ESP_LABEL = "EFI-SYSTEM"


def write_raw_disk(plan: DiskPlan, trees: Trees, disk: Path, progress: Progress) -> None:
    """Make the raw disk file ``disk``, sparse. It must not exist; a failure may leave it unfinished.

    Raises:
        MissingProgramError, CommandError, UserError, OSError (no space left).
    """
    with disk.open("xb") as file:
        file.truncate(plan.size)
    progress.step("Writing the partition table")
    write_partition_table(plan, disk)
    if trees.core_image().exists():
        write_bios_boot_loader(plan, trees, disk)
    progress.step("Writing the EFI system partition")
    write_esp(plan, trees.esp, disk)
    progress.step("Writing the /boot file system")
    write_ext4(plan, Role.BOOT, trees.boot, disk)
    progress.step("Writing the root file system")
    write_ext4(plan, Role.ROOT, trees.root, disk)
    e2fsprogs.make_immutable(
        slot(disk, plan.partition(Role.ROOT)), trees.deployment_roots(), plan.timestamp
    )


def write_partition_table(plan: DiskPlan, disk: Path) -> None:
    """Write the GPT, both copies, and the protective MBR.

    Raises:
        MissingProgramError, CommandError.
    """
    entries = [
        sfdisk.GptEntry(
            part.number,
            part.start_sector,
            part.sectors,
            part.type_guid,
            part.guid,
            part.role.value,
        )
        for part in plan.partitions
    ]
    sfdisk.write_gpt(disk, plan.identity.uuid("disk"), entries)


def write_bios_boot_loader(plan: DiskPlan, trees: Trees, disk: Path) -> None:
    """Put GRUB for BIOS into the first sector's code area and the BIOS boot partition.

    Raises:
        UserError: the image's GRUB files are not what they should be.
    """
    place = plan.partition(Role.BIOS_BOOT)
    core = patch_core_image(trees.core_image().read_bytes(), place.start_sector)
    if len(core) > place.size:
        raise UserError(
            f"GRUB's core.img has {len(core)} bytes, the BIOS boot partition {place.size}.",
            "Leave modules out of it.",
        )
    code = patch_boot_image(trees.boot_image().read_bytes(), place.start_sector)
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), code, 0)
        os.pwrite(file.fileno(), core, place.start)


def write_esp(plan: DiskPlan, tree: Path, disk: Path) -> None:
    """Write the EFI system partition.

    Raises:
        MissingProgramError, CommandError.
    """
    place = plan.partition(Role.ESP)
    volume = FatVolume(disk, place.start, place.size, plan.timestamp)
    volume.format(plan.identity.esp_serial, ESP_LABEL)
    volume.copy_tree(tree)


def write_ext4(plan: DiskPlan, role: Role, tree: Path, disk: Path) -> None:
    """Write the file system of /boot or of root.

    Raises:
        MissingProgramError, CommandError.
    """
    identity = plan.identity
    place = slot(disk, plan.partition(role))
    e2fsprogs.make_ext4(
        place,
        tree,
        uuid=identity.boot_uuid if role is Role.BOOT else identity.root_uuid,
        hash_seed=identity.uuid(f"{role.value} hash seed"),
        label=BOOT_LABEL if role is Role.BOOT else ROOT_LABEL,
        timestamp=plan.timestamp,
    )
    e2fsprogs.freeze_times(place, plan.timestamp)


def slot(disk: Path, partition: Partition) -> e2fsprogs.Ext4Slot:
    """Where a partition's file system is in the disk file."""
    return e2fsprogs.Ext4Slot(disk, partition.start, partition.size)
