"""Where the programs run that make file systems: on this machine, or in the image if its own are newer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.disk.wanted import Layout
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, MissingProgramError, run
from bootc_build.tools import mkfs
from bootc_build.tools.buildah import Volume, WorkingContainer, working_container

_WORK: Final = "/run/bootc-build/work"
Workshops = Mapping[str, "Workshop"]


@dataclass(frozen=True)
class Workshop:
    """A place where programs run.

    Attributes:
        image_id: the image in which they run; None for this machine.
    """

    image_id: str | None = None

    def run(
        self, folder: Path, command: Callable[[mkfs.Seen], Sequence[str]], timestamp: int
    ) -> None:
        """Run a command that reads and writes below a folder.

        Args:
            folder: the folder.
            command: the arguments, given what turns a path into one that the program sees.
            timestamp: seconds since the epoch, for programs that know SOURCE_DATE_EPOCH.

        Raises:
            MissingProgramError, CommandError.
        """
        env = {"SOURCE_DATE_EPOCH": str(timestamp)}
        if self.image_id is None:
            run(command(str), env=env)
            return
        with working_container(self.image_id) as container:
            container.run(
                command(lambda path: f"{_WORK}/{path.relative_to(folder)}"),
                volumes=(Volume(folder, _WORK),),
                env=env,
            )


def find_workshops(container: WorkingContainer, image_id: str, layout: Layout) -> Workshops:
    """For each type of file system but ext4, where it is made.

    Args:
        container: of the image; may be gone afterwards.
        image_id: the image.
        layout: what is to be made.

    Raises:
        UserError: nothing here can make it; says what there is and what it takes.
    """
    found = {}
    if "xfs" in layout.kinds:
        found["xfs"] = _find(container, image_id, "mkfs.xfs", _fills_xfs, _XFS)
    if layout.subvolumes:
        found["btrfs"] = _find(container, image_id, "mkfs.btrfs", _makes_subvolumes, _BTRFS)
    elif "btrfs" in layout.kinds:
        found["btrfs"] = _find(container, image_id, "mkfs.btrfs", lambda _runner: True, _ANY_BTRFS)
    return found


_XFS: Final = (
    "can fill a file system from a folder; that takes xfsprogs 6.17 or newer",
    "Use ext4 or btrfs, or install a newer xfsprogs on this machine or in the image.",
)
_BTRFS: Final = (
    "makes subvolumes; that takes btrfs-progs 6.12 or newer",
    "Leave the subvolumes out, or install a newer btrfs-progs on this machine or in the image.",
)
_ANY_BTRFS: Final = ("is there", "Install btrfs-progs on this machine or in the image.")


def _find(
    container: WorkingContainer,
    image_id: str,
    program: str,
    can: Callable[[mkfs.Runner], bool],
    says: tuple[str, str],
) -> Workshop:
    if _is_true(can, mkfs.on_this_machine, program):
        return Workshop()
    in_image = any(
        (container.mount() / place / program).exists() for place in ("usr/sbin", "usr/bin")
    )
    if in_image and _is_true(can, container.run, program):
        return Workshop(image_id)
    fact, remedy = says
    raise UserError(f"Neither on this machine nor in the image a {program} {fact}.", remedy)


def _is_true(can: Callable[[mkfs.Runner], bool], runner: mkfs.Runner, program: str) -> bool:
    try:
        mkfs.release(runner, program)
        return can(runner)
    except (MissingProgramError, CommandError):
        return False


def _fills_xfs(runner: mkfs.Runner) -> bool:
    return mkfs.release(runner, "mkfs.xfs") >= mkfs.XFS_FILLS_SINCE


def _makes_subvolumes(runner: mkfs.Runner) -> bool:
    return mkfs.release(runner, "mkfs.btrfs") >= mkfs.BTRFS_SUBVOLUMES_SINCE
