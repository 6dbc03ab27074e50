"""mkfs.btrfs, mkfs.xfs and mkswap: file systems in files of their own, filled from a folder, without a mount.

The programs may be this machine's or the image's: `Runner` is whatever runs a command that sees the given paths.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.process import run

Runner = Callable[[Sequence[str]], str]

# The first release whose mkfs.xfs takes a folder to fill the file system from.
XFS_FILLS_SINCE = (6, 17)


def on_this_machine(argv: Sequence[str]) -> str:
    """Run a command of this machine and return its output.

    Raises:
        MissingProgramError, CommandError.
    """
    return run(argv).stdout


def make_btrfs(  # noqa: D417 - the rest speaks for itself
    file: Path, tree: Path, *, uuid: UUID, label: str, timestamp: int
) -> None:
    """Fill a file with a btrfs that has the contents of a folder: owners, modes, xattrs, hard links kept.

    Args:
        file: of the size that the file system shall have.
        timestamp: seconds since the epoch, where mkfs.btrfs knows how to use one.

    Raises:
        MissingProgramError, CommandError.
    """
    run(
        ["mkfs.btrfs", "-q", "-f", "-U", str(uuid), "-L", label, "--rootdir", str(tree), str(file)],
        env={"SOURCE_DATE_EPOCH": str(timestamp)},
    )


def xfs_version(runner: Runner) -> tuple[int, int]:
    """Release of mkfs.xfs.

    Raises:
        MissingProgramError, CommandError: there is none.
    """
    found = re.search(r"version (\d+)\.(\d+)", runner(["mkfs.xfs", "-V"]))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def make_xfs(runner: Runner, file: str, tree: str, *, uuid: UUID, label: str) -> None:
    """Fill a file with an XFS that has the contents of a folder.

    Args:
        runner: runs a mkfs.xfs of `XFS_FILLS_SINCE` or later.
        file: of the size that the file system shall have, as the runner sees it.
        tree: the folder, as the runner sees it.
        uuid: of the file system.
        label: twelve bytes at most.

    Raises:
        CommandError.
    """
    runner(["mkfs.xfs", "-q", "-f", "-m", f"uuid={uuid}", "-L", label, "-p", tree, file])


def make_swap(file: Path, *, uuid: UUID, label: str) -> None:
    """Make a file a swap area.

    Raises:
        MissingProgramError, CommandError.
    """
    file.chmod(0o600)
    run(["mkswap", "--quiet", "--uuid", str(uuid), "--label", label, str(file)])
