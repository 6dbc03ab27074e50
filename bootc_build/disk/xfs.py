"""Which mkfs.xfs fills an XFS: this machine's where it is new enough, else the image's own."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, MissingProgramError
from bootc_build.tools import mkfs
from bootc_build.tools.buildah import Volume, WorkingContainer, working_container

# Makes a file an XFS with the contents of a folder, both in one folder; then come UUID and label.
XfsMaker = Callable[[Path, Path, UUID, str], None]

_WORK = "/run/bootc-build/work"


def find_xfs_maker(container: WorkingContainer, image_id: str) -> XfsMaker:
    """What makes file systems for an image.

    Args:
        container: of the image; may be gone when the maker is called.
        image_id: the image.

    Raises:
        UserError: neither this machine's mkfs.xfs nor the image's can fill a file system from a folder.
    """
    here = _version(mkfs.on_this_machine)
    if here >= mkfs.XFS_FILLS_SINCE:
        return _make_here
    there = _version(container.run) if (container.mount() / "usr/sbin/mkfs.xfs").exists() else None
    if there is not None and there >= mkfs.XFS_FILLS_SINCE:
        return lambda file, tree, uuid, label: _make_in_image(image_id, file, tree, uuid, label)
    raise UserError(
        f"No mkfs.xfs can fill a file system from a folder here: this machine has {_words(here)}, the image "
        f"{_words(there or (0, 0))}; it takes {_words(mkfs.XFS_FILLS_SINCE)}.",
        "Use ext4 or btrfs, or install a newer xfsprogs on this machine or in the image.",
    )


def _version(runner: mkfs.Runner) -> tuple[int, int]:
    try:
        return mkfs.xfs_version(runner)
    except (MissingProgramError, CommandError):
        return (0, 0)


def _words(version: tuple[int, int]) -> str:
    return f"xfsprogs {version[0]}.{version[1]}" if version[0] else "none"


def _make_here(file: Path, tree: Path, uuid: UUID, label: str) -> None:
    mkfs.make_xfs(mkfs.on_this_machine, str(file), str(tree), uuid=uuid, label=label)


def _make_in_image(image_id: str, file: Path, tree: Path, uuid: UUID, label: str) -> None:
    def inside(path: Path) -> str:
        return f"{_WORK}/{path.relative_to(file.parent)}"

    with working_container(image_id) as container:
        mkfs.make_xfs(
            lambda argv: container.run(argv, volumes=(Volume(file.parent, _WORK),)),
            inside(file),
            inside(tree),
            uuid=uuid,
            label=label,
        )
