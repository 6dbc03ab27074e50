"""The file systems of a disk that can be read here, as trees of files; what cannot is said in notes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootc_build.inspection.records import Partition
from bootc_build.inspection.trees import FatTree, FileTree, Subtree
from bootc_build.onhost.process import CommandError, MissingProgramError
from bootc_build.tools import grub_fstest
from bootc_build.tools.e2fsprogs import Ext4Slot, Ext4Tree
from bootc_build.tools.mtools import FatVolume

EXT = ("ext2", "ext3", "ext4")
_BY_GRUB = ("btrfs", "xfs")
# "dumpe2fs 1.47.0 (5-Feb-2023)", "grub-fstest: warning: Discarding improperly nested partition".
_ASIDE = re.compile(r"^\w+ \d+\.\d|: warning: ")
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
    volumes_read = False
    for part in partitions:
        kind = part.file_system.kind if part.file_system else ""
        if kind == _LUKS:
            notes.append(f"Partition {part.number} is encrypted (LUKS); what is in it is not read.")
        if kind == _LVM:
            # GRUB shows a group's volumes whichever of its partitions one asks for.
            if not volumes_read:
                yield from _logical_volumes(disk, part, notes)
            volumes_read = True
        try:
            yield from _trees(disk, part, kind)
        except MissingProgramError as error:
            notes.append(_needs_grub(part, error))
        except CommandError as error:
            notes.append(_not_read(part.number, kind, error))


def reason(error: CommandError) -> str:
    """The first thing that a program said of its failure, without its version and its warnings."""
    said = (line.strip() for line in error.tail.splitlines())
    told = (line for line in said if line and not _ASIDE.search(line))
    return next(told, f"{error.argv[0]} failed with status {error.status}")


def _not_read(number: int, kind: str, error: CommandError) -> str:
    return f"The {kind} of partition {number} is not read: {reason(error)}"


def _needs_grub(part: Partition, error: MissingProgramError) -> str:
    return (
        f"Partition {part.number} is not read: {error.fact} "
        "grub-fstest is in the Debian package grub-common."
    )


def _trees(disk: Path, part: Partition, kind: str) -> Iterator[Found]:
    name = part.name or str(part.number)
    if kind in EXT:
        ext = Ext4Tree(Ext4Slot(disk, part.start, part.size))
        ext.require()
        yield Found(part.number, name, ext)
    elif kind == "vfat":
        yield Found(part.number, name, FatTree(FatVolume(disk, part.start, part.size, 0)))
    elif kind in _BY_GRUB:
        wanted = f"loop0,gpt{part.number}", f"loop0,msdos{part.number}"
        device = next((each for each in grub_fstest.devices(disk) if each in wanted), wanted[0])
        tree = grub_fstest.GrubTree(disk, device)
        tree.require()
        yield from _with_subvolumes(part, name, tree)


def _logical_volumes(disk: Path, part: Partition, notes: list[str]) -> Iterator[Found]:
    try:
        found = [each for each in grub_fstest.devices(disk) if each.startswith("lvm/")]
    except MissingProgramError as error:
        notes.append(_needs_grub(part, error))
        return
    except CommandError as error:
        notes.append(_not_read(part.number, _LVM, error))
        return
    if not found:
        notes.append(
            f"The logical volumes of partition {part.number} are not read: GRUB's drivers find none. Are all "
            "partitions of the volume group on this disk, and is it whole?"
        )
    for device in found:
        yield from _with_subvolumes(part, device, grub_fstest.GrubTree(disk, device))


def _with_subvolumes(part: Partition, name: str, tree: grub_fstest.GrubTree) -> Iterator[Found]:
    yield Found(part.number, name, tree)
    # btrfs: the default subvolume's files may lie in a folder of the top.
    for folder in tree.names(""):
        if tree.names(f"/{folder}/ostree/repo"):
            yield Found(part.number, name, Subtree(tree, f"/{folder}"))
