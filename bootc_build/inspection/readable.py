"""The file systems of a disk that can be read here, as trees of files; what cannot is said in notes."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootc_build.inspection.records import FileSystem, LogicalVolume, Partition
from bootc_build.inspection.trees import FatTree, FileTree, Subtree
from bootc_build.onhost.process import CommandError, MissingProgramError
from bootc_build.tools import blkid, grub_fstest
from bootc_build.tools.e2fsprogs import Ext4Slot, Ext4Tree
from bootc_build.tools.mtools import FatVolume

EXT = ("ext2", "ext3", "ext4")
_BY_GRUB = ("btrfs", "xfs")
# "dumpe2fs 1.47.0 (5-Feb-2023)", "grub-fstest: warning: Discarding improperly nested partition".
_ASIDE = re.compile(r"^\w+ \d+\.\d|: warning: ")
# As far as the signatures of file systems reach.
_HEAD_BYTES = 1024 * 1024
_LVM, _LUKS = "LVM2_member", "crypto_LUKS"


@dataclass(frozen=True)
class Found:
    """A file system with its tree, and the number and name of what it is on."""

    number: int
    name: str
    tree: FileTree


def readable_trees(
    disk: Path, partitions: tuple[Partition, ...], notes: list[str]
) -> Iterator[Found]:
    """The trees of the file systems that can be read.

    Args:
        disk: a raw disk.
        partitions: its partitions.
        notes: gets what cannot be read, and why.
    """
    for part in partitions:
        if part.kind == _LUKS:
            notes.append(f"Partition {part.number} is encrypted (LUKS); what is in it is not read.")
        with _noted(part, notes):
            yield from _trees(disk, part)


def readable_volumes(
    disk: Path, partitions: tuple[Partition, ...], notes: list[str]
) -> tuple[tuple[LogicalVolume, ...], list[Found]]:
    """The logical volumes, and the trees of the file systems in them.

    Args:
        disk: a raw disk.
        partitions: its partitions.
        notes: gets what cannot be read, and why.
    """
    part = next((each for each in partitions if each.kind == _LVM), None)
    volumes: list[LogicalVolume] = []
    trees: list[Found] = []
    if part is None:
        return (), trees
    with _noted(part, notes):
        found = grub_fstest.logical_volumes(disk)
        if not found:
            notes.append(
                f"The logical volumes of partition {part.number} are not read: GRUB's drivers find none. Are all "
                "partitions of the volume group on this disk, and is it whole?"
            )
        for each in found:
            volume = LogicalVolume(each.path, each.size, _file_system(disk, each.device))
            volumes.append(volume)
            kind = volume.file_system.kind if volume.file_system else ""
            if kind in (*EXT, *_BY_GRUB):
                trees += _with_subvolumes(part, each.path, grub_fstest.GrubTree(disk, each.device))
            elif kind == _LUKS:
                notes.append(
                    f"The volume {each.path} is encrypted (LUKS); what is in it is not read."
                )
    return tuple(volumes), trees


def _file_system(disk: Path, device: str) -> FileSystem | None:
    """What is in a logical volume."""
    with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
        head = Path(folder, "head")
        grub_fstest.copy_head(disk, device, _HEAD_BYTES, head)
        found = blkid.probe(head, 0, _HEAD_BYTES)
    return None if found is None else FileSystem(found.kind, found.uuid, found.label)


@contextmanager
def _noted(part: Partition, notes: list[str]) -> Iterator[None]:
    """Make a note of what keeps a partition from being read."""
    try:
        yield
    except MissingProgramError as error:
        notes.append(
            f"Partition {part.number} is not read: {error.fact} "
            "grub-fstest is in the Debian package grub-common."
        )
    except CommandError as error:
        notes.append(f"The {part.kind} of partition {part.number} is not read: {reason(error)}")


def reason(error: CommandError) -> str:
    """The first thing that a program said of its failure, without its version and its warnings."""
    said = (line.strip() for line in error.tail.splitlines())
    told = (line for line in said if line and not _ASIDE.search(line))
    return next(told, f"{error.argv[0]} failed with status {error.status}")


def _trees(disk: Path, part: Partition) -> Iterator[Found]:
    name = part.name or str(part.number)
    if part.kind in EXT:
        ext = Ext4Tree(Ext4Slot(disk, part.start, part.size))
        ext.require()
        yield Found(part.number, name, ext)
    elif part.kind == "vfat":
        yield Found(part.number, name, FatTree(FatVolume(disk, part.start, part.size, 0)))
    elif part.kind in _BY_GRUB:
        wanted = f"loop0,gpt{part.number}", f"loop0,msdos{part.number}"
        device = next((each for each in grub_fstest.devices(disk) if each in wanted), wanted[0])
        tree = grub_fstest.GrubTree(disk, device)
        tree.require()
        yield from _with_subvolumes(part, name, tree)


def _with_subvolumes(part: Partition, name: str, tree: grub_fstest.GrubTree) -> Iterator[Found]:
    yield Found(part.number, name, tree)
    # btrfs: the default subvolume's files may lie in a folder of the top.
    for folder in tree.names(""):
        if tree.names(f"/{folder}/ostree/repo"):
            yield Found(part.number, name, Subtree(tree, f"/{folder}"))
