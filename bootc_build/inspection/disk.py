"""Look into a disk file: its partitions, and what boots from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootc_build.inspection import deployed, secure_boot
from bootc_build.inspection.disk_file import OpenedDisk, opened
from bootc_build.inspection.records import FileSystem, InspectedDisk, Partition
from bootc_build.inspection.trees import FatTree, FileTree, Subtree
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, MissingProgramError
from bootc_build.tools import blkid, e2fsprogs, grub_fstest, sfdisk
from bootc_build.tools.e2fsprogs import Ext4Slot, Ext4Tree
from bootc_build.tools.mtools import FatVolume

# GPT types by the Discoverable Partitions Specification, and DOS types.
_PURPOSES = {
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "extended boot loader",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux data",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "root (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "root (ARM 64-bit)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "LVM",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "LUKS",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "variable data (/var)",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "home",
    "83": "Linux data",
    "82": "swap",
    "8e": "LVM",
    "ef": "EFI system",
    "ee": "protective",
}
_EXT = ("ext2", "ext3", "ext4")
_BY_GRUB = ("btrfs", "xfs")
_LVM, _LUKS = "LVM2_member", "crypto_LUKS"


@dataclass(frozen=True)
class _Found:
    """A file system with its tree, and the name of what it is on."""

    name: str
    tree: FileTree


def inspect_disk(file: Path) -> InspectedDisk:
    """What is on a disk, of whatever format.

    Raises:
        UserError: it cannot be read, or has no partition table.
    """
    with opened(file) as disk:
        return _inspect(file, disk)


def _inspect(file: Path, disk: OpenedDisk) -> InspectedDisk:
    table = sfdisk.read_table(disk.raw)
    if table is None:
        raise UserError(
            f"'{file}' has no partition table.", "Is it a disk? Make one: bootc-build disk IMAGE"
        )
    partitions = tuple(_partition(disk.raw, listed) for listed in table.partitions)
    notes: list[str] = []
    trees = list(_trees(disk.raw, partitions, notes))
    boot = next(filter(None, (_boot_folder(found.tree) for found in trees)), None)
    root = next((found.tree for found in trees if found.tree.names("/ostree/repo")), None)
    entries = deployed.boot_entries(boot, root) if boot else ()
    systems = deployed.deployments(root, [entry.deployment for entry in entries]) if root else ()
    return InspectedDisk(
        file=str(file),
        format=disk.format,
        disk_bytes=disk.disk_bytes,
        stored_bytes=disk.stored_bytes,
        table=table.kind,
        identifier=table.identifier,
        partitions=partitions,
        boot_entries=entries,
        deployments=systems,
        secure_boot=secure_boot.examine(_programs(trees, boot)),
        notes=tuple(notes),
    )


def _partition(disk: Path, listed: sfdisk.ListedPartition) -> Partition:
    found = blkid.probe(disk, listed.start, listed.size)
    file_system = None
    if found is not None:
        used = None
        if found.kind in _EXT:
            used = e2fsprogs.usage(Ext4Slot(disk, listed.start, listed.size)).used
        file_system = FileSystem(found.kind, found.uuid, found.label, used)
    purpose = _PURPOSES.get(listed.type_id, listed.type_id)
    return Partition(
        listed.number,
        listed.name,
        purpose,
        listed.type_id,
        listed.guid,
        listed.start,
        listed.size,
        file_system,
    )


def _trees(disk: Path, partitions: tuple[Partition, ...], notes: list[str]) -> Iterator[_Found]:
    """The trees of the file systems that can be read; what cannot goes into the notes."""
    for part in partitions:
        kind = part.file_system.kind if part.file_system else ""
        name = part.name or str(part.number)
        if kind in _EXT:
            yield _Found(name, Ext4Tree(Ext4Slot(disk, part.start, part.size)))
        elif kind == "vfat":
            yield _Found(name, FatTree(FatVolume(disk, part.start, part.size, 0)))
        elif kind in _BY_GRUB or kind == _LVM:
            yield from _by_grub(disk, part, notes)
        elif kind == _LUKS:
            notes.append(f"Partition {part.number} is encrypted (LUKS); what is in it is not read.")


def _by_grub(disk: Path, part: Partition, notes: list[str]) -> Iterator[_Found]:
    try:
        found = grub_fstest.devices(disk)
    except (MissingProgramError, CommandError) as error:
        notes.append(
            f"Partition {part.number} is not read: {error.fact} "
            "grub-fstest is in the Debian package grub-common."
        )
        return
    is_lvm = part.file_system is not None and part.file_system.kind == _LVM
    for device in found:
        if device.startswith("lvm/") if is_lvm else device == f"loop0,gpt{part.number}":
            tree = grub_fstest.GrubTree(disk, device)
            # btrfs: the default subvolume's files may lie in a folder of the top.
            yield _Found(part.name or device, tree)
            for name in tree.names(""):
                if tree.names(f"/{name}/ostree/repo"):
                    yield _Found(part.name or device, Subtree(tree, f"/{name}"))


def _boot_folder(tree: FileTree) -> FileTree | None:
    """The tree's folder that is /boot at run time, if it has one with boot entries."""
    for folder in ("", "/boot"):
        if tree.names(f"{folder}/loader/entries"):
            return Subtree(tree, folder) if folder else tree
    return None


def _programs(trees: list[_Found], boot: FileTree | None) -> Iterator[tuple[str, bytes]]:
    for found in trees:
        for path in getattr(found.tree, "files", ()):
            if path.lower().endswith(".efi"):
                yield f"{found.name}:{path}", found.tree.read(path) or b""
    for folder in boot.names("/ostree") if boot else ():
        for name in boot.names(f"/ostree/{folder}") if boot else ():
            if boot and name.startswith("vmlinuz"):
                path = f"/ostree/{folder}/{name}"
                yield f"boot:{path}", boot.read(path) or b""
