"""Look into a disk file: its partitions, and what boots from them."""

from collections.abc import Iterator
from pathlib import Path

from bootc_build.inspection import deployed, secure_boot
from bootc_build.inspection.disk_file import OpenedDisk, opened
from bootc_build.inspection.readable import EXT, Found, readable_trees, readable_volumes, reason
from bootc_build.inspection.records import FileSystem, InspectedDisk, Partition
from bootc_build.inspection.trees import FileTree, Subtree
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError
from bootc_build.tools import blkid, e2fsprogs, sfdisk
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.gpt import COPY_AGAIN, read_gpt

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
_PROTECTIVE = "ee"
# What is never empty: the ESP, /boot, roots, LVM.
_FILLED = (
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "e6d6d379-f507-44c2-a23c-238f2a3df928",
)


def inspect_disk(file: Path) -> InspectedDisk:
    """What is on a disk, of whatever format.

    Raises:
        UserError: it cannot be read, or has no partition table.
    """
    with opened(file) as disk:
        try:
            return _inspect(file, disk)
        except OSError as error:
            raise UserError(
                f"The disk '{file}' cannot be read: {error.strerror}.",
                "Is the storage that it lies on whole? The kernel's log tells (dmesg).",
            ) from error


def _inspect(file: Path, disk: OpenedDisk) -> InspectedDisk:
    notes: list[str] = []
    table = _table(file, disk.raw, notes)
    partitions = tuple(_partition(disk.raw, listed, notes) for listed in table.partitions)
    volumes, in_volumes = readable_volumes(disk.raw, partitions, notes)
    trees = [*readable_trees(disk.raw, partitions, notes), *in_volumes]
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
        logical_volumes=volumes,
        boot_entries=entries,
        deployments=systems,
        secure_boot=secure_boot.examine(_programs(trees, boot)),
        notes=(*notes, *_complaints(trees)),
    )


def _table(file: Path, raw: Path, notes: list[str]) -> sfdisk.PartitionTable:
    """The partition table; what is wrong with it, and harmless to a reader, goes into the notes."""
    table, gpt = sfdisk.read_table(raw), read_gpt(raw)
    faults = gpt.faults if gpt else ()
    if faults and (table is None or table.kind != "gpt"):
        raise UserError(f"'{file}' is damaged. {' '.join(faults)}", COPY_AGAIN)
    if table is None:
        raise UserError(
            f"'{file}' has no partition table.", "Is it a disk? Make one: bootc-build disk IMAGE"
        )
    if [part.type_id for part in table.partitions] == [_PROTECTIVE]:
        raise UserError(
            f"'{file}' is damaged. The partition table (GPT) that its first sector announces is not there.",
            COPY_AGAIN,
        )
    notes += faults
    return table


def _partition(disk: Path, listed: sfdisk.ListedPartition, notes: list[str]) -> Partition:
    found = blkid.probe(disk, listed.start, listed.size)
    file_system = None
    if found is None and listed.type_id in _FILLED:
        notes.append(f"Partition {listed.number} has nothing in it that is known here.")
    if found is not None:
        used = _used(disk, listed, found.kind, notes) if found.kind in EXT else None
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


def _used(disk: Path, listed: sfdisk.ListedPartition, kind: str, notes: list[str]) -> int | None:
    try:
        usage = e2fsprogs.usage(Ext4Slot(disk, listed.start, listed.size))
    except CommandError as error:
        notes.append(f"The {kind} of partition {listed.number} is damaged: {reason(error)}")
        return None
    if usage.unreplayed:
        notes.append(
            f"The {kind} of partition {listed.number} is in use or was not unmounted: what only its journal has "
            "is not seen."
        )
    return usage.used


def _boot_folder(tree: FileTree) -> FileTree | None:
    """The tree's folder that is /boot at run time, if it has one with boot entries."""
    for folder in ("", "/boot"):
        if tree.names(f"{folder}/loader/entries"):
            return Subtree(tree, folder) if folder else tree
    return None


def _complaints(trees: list[Found]) -> Iterator[str]:
    """What the reading programs complained of, the first of each file system."""
    for found in trees:
        complaints = getattr(found.tree, "complaints", ())
        if complaints:
            yield (
                f"The file system of partition {found.number} is damaged, and what is said of it may be "
                f"incomplete: {complaints[0]}"
            )


def _programs(trees: list[Found], boot: FileTree | None) -> Iterator[tuple[str, bytes]]:
    for found in trees:
        for path in getattr(found.tree, "files", ()):
            if path.lower().endswith(".efi"):
                yield f"{found.name}:{path}", found.tree.read(path) or b""
    for folder in boot.names("/ostree") if boot else ():
        for name in boot.names(f"/ostree/{folder}") if boot else ():
            if boot and name.startswith("vmlinuz"):
                path = f"/ostree/{folder}/{name}"
                yield f"boot:{path}", boot.read(path) or b""
