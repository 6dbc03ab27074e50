"""mkfs.btrfs, mkfs.xfs and mkswap: file systems in files of their own, filled from a folder, without a mount.

The programs may be this machine's or the image's: a `Runner` runs a command, `Seen` turns a path into the one by
which the program sees it.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.process import run

Runner = Callable[[Sequence[str]], str]
Seen = Callable[[Path], str]

# The first release whose mkfs.xfs takes a folder to fill the file system from.
XFS_FILLS_SINCE = (6, 17)
# The first whose mkfs.btrfs takes kinds of subvolumes.
BTRFS_SUBVOLUMES_SINCE = (6, 12)


def on_this_machine(argv: Sequence[str]) -> str:
    """Run a command of this machine and return its output.

    Raises:
        MissingProgramError, CommandError.
    """
    return run(argv).stdout


def btrfs_command(  # noqa: D417 - the rest speaks for itself
    file: str, tree: str, *, uuid: UUID, label: str, subvolumes: Sequence[str] = ()
) -> list[str]:
    """Fill a file with a btrfs that has the contents of a folder: owners, modes, xattrs, hard links kept.

    Args:
        file: of the size that the file system shall have.
        subvolumes: folders in the tree that become subvolumes.
    """
    flags = [flag for name in subvolumes for flag in ("--subvol", f"rw:{name}")]
    identity = ["-U", str(uuid), "-L", label]
    return ["mkfs.btrfs", "-q", "-f", *identity, "--rootdir", tree, *flags, file]


def xfs_command(file: str, tree: str, *, uuid: UUID, label: str) -> list[str]:
    """Fill a file, of the size that the file system shall have, with an XFS that has the contents of a folder.

    It takes a mkfs.xfs of `XFS_FILLS_SINCE` or later; the label has twelve bytes at most.
    """
    return ["mkfs.xfs", "-q", "-f", "-m", f"uuid={uuid}", "-L", label, "-p", tree, file]


def release(runner: Runner, program: str) -> tuple[int, int]:
    """Release of mkfs.xfs or mkfs.btrfs.

    Raises:
        MissingProgramError, CommandError: there is none.
    """
    found = re.search(r"(?:version |v)(\d+)\.(\d+)", runner([program, "-V"]))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def make_swap(file: Path, *, uuid: UUID, label: str) -> None:
    """Make a file a swap area.

    Raises:
        MissingProgramError, CommandError.
    """
    file.chmod(0o600)
    run(["mkswap", "--quiet", "--uuid", str(uuid), "--label", label, str(file)])
