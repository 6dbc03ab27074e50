"""Write a disk file from a plan and the trees: every byte goes straight to its place, once."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bootc_build.disk import lvm
from bootc_build.disk.ext4.fill import Ext4Image, Identity, Witness, make_ext4
from bootc_build.disk.ext4.scan import ScannedTree
from bootc_build.disk.identity import Role
from bootc_build.disk.plan import DiskPlan, Partition
from bootc_build.disk.trees import Settled, Trees, turn_back_times
from bootc_build.disk.wanted import Layout, Subvolume
from bootc_build.disk.workshop import Workshop, Workshops
from bootc_build.disk.worktree import beside, remove_tree
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install.bootsector import patch_boot_image, patch_core_image
from bootc_build.onhost.progress import Progress
from bootc_build.tools import e2fsprogs, mkfs, sfdisk
from bootc_build.tools.mtools import FatVolume
from bootc_build.tools.sizes import in_words
from bootc_build.tools.sparse import copy_into

BOOT_LABEL = "boot"
ESP_LABEL = "EFI-SYSTEM"


def write_raw_disk(
    plan: DiskPlan,
    settled: Settled,
    disk: Path,
    progress: Progress,
    workshops: Workshops = MappingProxyType({}),
    *,
    on_written: Callable[[int], None] = lambda _end: None,
    witness: Witness | None = None,
) -> None:
    """Make the raw disk file ``disk``, sparse. It must not exist; a failure may leave it unfinished.

    Args:
        plan: what it shall be like.
        settled: what goes on it, in the folder of ``disk``.
        disk: the file.
        progress: hears of the steps.
        workshops: where file systems other than ext4 are made.
        on_written: is told, again and again and by different threads, how many bytes from the beginning are as they stay.
        witness: sees the contents of an ext4 root on their way.

    Raises:
        MissingProgramError, CommandError, UserError, OSError (no space left).
    """
    with disk.open("xb") as file:
        file.truncate(plan.size)
    progress.step("Writing the partition table")
    write_partition_table(plan, disk)
    trees = settled.trees
    if plan.layout.bios_boot_size:
        write_bios_boot_loader(plan, trees, disk)
    progress.step("Writing the EFI system partition")
    write_esp(plan, trees.esp, disk)
    remove_tree(trees.esp)
    if plan.layout.group is not None:
        write_volume_group(plan, disk)
    root = plan.partition(Role.ROOT)
    content = _content(plan.layout, root, settled)
    assert content is not None  # noqa: S101 - the root has one

    def write_front() -> None:
        for partition in plan.places:
            if partition is not root:
                _write_partition(plan, partition, settled, disk, workshops)
        on_written(root.start)

    names = ", ".join(["/boot", *trees.extras, "/"])
    progress.step(f"Writing the file systems of {names}")
    if content.kind == "ext4":
        # At its beginning there is all that is not contents.
        with nullcontext() if trees.extras else beside(write_front):
            image = _make_ext4(plan, root, content, disk)
        if trees.extras:
            write_front()
        image.write_contents(on_written, witness)
        return
    if trees.extras:
        # One after the other: what is written has its tree removed, to make room for the next.
        write_front()
    with nullcontext() if trees.extras else beside(write_front):
        _fill(plan, root, content, disk, workshops)


def _write_partition(
    plan: DiskPlan, partition: Partition, settled: Settled, disk: Path, workshops: Workshops
) -> None:
    if partition.role is Role.SWAP:
        write_swap(plan, partition, disk)
    elif (content := _content(plan.layout, partition, settled)) is not None:
        _fill(plan, partition, content, disk, workshops)


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
            part.name,
            part.attributes,
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
    """Write the EFI system partition. Times in the tree may be turned back.

    Raises:
        MissingProgramError, CommandError.
    """
    place = plan.partition(Role.ESP)
    volume = FatVolume(disk, place.start, place.size, plan.timestamp)
    volume.format(plan.identity.esp_serial, ESP_LABEL)
    turn_back_times(tree, plan.timestamp)
    volume.copy_tree(tree)


def write_volume_group(plan: DiskPlan, disk: Path) -> None:
    """Make the partition of volumes a physical volume of LVM, with the plan's logical volumes."""
    place, group = plan.partition(Role.VOLUMES), plan.layout.group
    assert group is not None  # noqa: S101 - the caller looked
    first = place.start + lvm.DATA_START
    volumes = [
        lvm.Volume(
            each.volume, each.guid, (each.start - first) // lvm.EXTENT, each.size // lvm.EXTENT
        )
        for each in plan.volumes
    ]
    uuid = plan.identity.uuid
    described = lvm.VolumeGroup(
        group.name,
        uuid("volume group"),
        uuid("physical volume"),
        place.size,
        volumes,
        plan.timestamp,
    )
    lvm.write_group(described, disk, place.start)


def write_swap(plan: DiskPlan, partition: Partition, disk: Path) -> None:
    """Make a partition a swap area.

    Raises:
        MissingProgramError, CommandError.
    """
    with _apart(partition, disk) as file:
        uuid = plan.identity.file_system(Role.SWAP)
        mkfs.make_swap(file, uuid=uuid, label=plan.layout.swap_label)


@dataclass(frozen=True)
class _Content:
    """What becomes of a partition: a file system of a kind, with a label and the files of a tree."""

    mountpoint: str
    kind: str
    label: str
    tree: Path
    scanned: ScannedTree
    subvolumes: tuple[Subvolume, ...] = ()


def _content(layout: Layout, partition: Partition, settled: Settled) -> _Content | None:
    trees = settled.trees
    if partition.role is Role.BOOT:
        return _Content("/boot", "ext4", BOOT_LABEL, trees.boot, settled.boot)
    if partition.role is Role.ROOT:
        tree = trees.gathered({each.mountpoint: each.name for each in layout.subvolumes})
        kind, label = layout.filesystem, layout.root_label
        return _Content("/", kind, label, tree, settled.root, layout.subvolumes)
    if partition.extra is None:
        return None
    extra, point = partition.extra, partition.extra.mountpoint
    tree, scanned = trees.extras[point], settled.extras[point]
    return _Content(point, extra.filesystem, extra.label, tree, scanned)


def _make_ext4(plan: DiskPlan, partition: Partition, content: _Content, disk: Path) -> Ext4Image:
    point = partition.extra.mountpoint if partition.extra else ""
    purpose = " ".join(filter(None, (partition.role.value, point, "hash seed")))
    identity = Identity(
        plan.identity.file_system(partition.role, point),
        plan.identity.uuid(purpose),
        content.label,
        plan.timestamp,
    )
    return make_ext4(slot(disk, partition), content.scanned, identity)


def _fill(
    plan: DiskPlan, partition: Partition, content: _Content, disk: Path, workshops: Workshops
) -> None:
    if content.kind == "ext4":
        _make_ext4(plan, partition, content, disk).write_contents()
        # Its space is wanted for the root.
        remove_tree(content.tree)
        return
    point = partition.extra.mountpoint if partition.extra else ""
    uuid = plan.identity.file_system(partition.role, point)
    tree, label = content.tree, content.label
    turn_back_times(tree, plan.timestamp)
    names = [each.name for each in content.subvolumes]
    with _apart(partition, disk) as file:

        def command(seen: mkfs.Seen) -> list[str]:
            if content.kind == "xfs":
                return mkfs.xfs_command(seen(file), seen(tree), uuid=uuid, label=label)
            return mkfs.btrfs_command(
                seen(file), seen(tree), uuid=uuid, label=label, subvolumes=names
            )

        workshops.get(content.kind, Workshop()).run(disk.parent, command, plan.timestamp)
        _check_still_fits(content, file, partition)
        # So that no more than two copies are there at once.
        remove_tree(tree)


def _check_still_fits(content: _Content, file: Path, partition: Partition) -> None:
    """Refuse a file system that its program made larger than the partition.

    mkfs.btrfs enlarges the file where it thinks that it needs more (see `btrfs_size`, whose figures are known for
    the releases until now); such a file system cannot be mounted, and would reach into what comes after it.
    """
    made = file.stat().st_size
    if made > partition.size:
        raise UserError(
            f"mkfs.{content.kind} made a file system of {in_words(made)} for {content.mountpoint}, whose "
            f"partition has {in_words(partition.size)}.",
            "Give it more: --size, or the size of its partition.",
        )


@contextmanager
def _apart(partition: Partition, disk: Path) -> Iterator[Path]:
    """A file of the partition's size for programs that know no offset; what it then holds goes to the disk."""
    file = disk.with_name(f"{disk.name}.part{partition.number}")
    with file.open("xb") as made:
        made.truncate(partition.size)
    yield file
    copy_into(file, disk, partition.start)
    file.unlink()


def slot(disk: Path, partition: Partition) -> e2fsprogs.Ext4Slot:
    """Where a partition's file system is in the disk file."""
    return e2fsprogs.Ext4Slot(disk, partition.start, partition.size)
