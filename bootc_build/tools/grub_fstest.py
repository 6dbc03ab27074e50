"""grub-fstest: read what is in a disk file through GRUB's own drivers (btrfs, xfs, LVM and more), no mount."""

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bootc_build.onhost.process import CommandError, run

# No file of this name is anywhere.
_NOWHERE = "/.bootc-build-nowhere"
_SECTOR = 512
_LVM = "lvm/"
# GRUB says so of a path, and "file … not found" of another.
_ABSENT = ("not found", "not a directory", "not a regular file", "invalid file name")


@dataclass(frozen=True)
class GrubTree:
    """One file system of a disk file.

    Attributes:
        disk: a raw disk.
        device: as GRUB calls it: "loop0,gpt4", "lvm/system-root".
        complaints: what GRUB said of damage so far; what it cannot read is left out.
    """

    disk: Path
    device: str
    complaints: list[str] = field(default_factory=list, compare=False)

    def require(self) -> None:
        """Look whether the file system can be read.

        Raises:
            MissingProgramError, CommandError: it cannot.
        """
        self._read(_NOWHERE)

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in a folder, sorted; empty when there is no such folder."""
        done = run(["grub-fstest", str(self.disk), "ls", f"({self.device}){folder}/"], check=False)
        # Folders end with a slash, names are parted by blanks.
        found = done.stdout.split() if done.status == 0 else []
        if not found:
            # Of a folder that cannot be read "ls" says nothing, with status 0; "cp" does.
            self.read(f"{folder}{_NOWHERE}")
        return tuple(sorted({name.rstrip("/") for name in found} - {".", ".."}))

    def read(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is no such file, or it cannot be read.

        Raises:
            MissingProgramError.
        """
        try:
            return self._read(path)
        except CommandError as error:
            self.complaints.extend(error.tail.strip().splitlines()[-1:])
            return None

    def _read(self, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
            target = Path(folder, "content")
            argv = ["grub-fstest", str(self.disk), "cp", f"({self.device}){path}", str(target)]
            done = run(argv, check=False)
            if done.status == 0 and target.exists():
                return target.read_bytes()
            if any(word in done.stderr for word in _ABSENT):
                return None
            raise CommandError(argv, done.status, done.stderr)

    def readlink(self, _path: str) -> str | None:
        """None: GRUB follows links and does not tell where they lead."""
        return None


@dataclass(frozen=True)
class LogicalVolume:
    """A logical volume as GRUB sees it.

    Attributes:
        device: as GRUB calls it: "lvm/system-root".
        path: group and volume: "system/root".
        size: in bytes; None where it does not say.
    """

    device: str
    path: str
    size: int | None


def logical_volumes(disk: Path) -> tuple[LogicalVolume, ...]:
    """The logical volumes in a disk file that GRUB can put together, by name.

    Raises:
        MissingProgramError, CommandError.
    """
    found = []
    for device in sorted(each for each in devices(disk) if each.startswith(_LVM)):
        # A hyphen in a name is doubled, the one between group and volume is not.
        group, _, volume = device.removeprefix(_LVM).replace("--", "\0").partition("-")
        said = run(["grub-fstest", str(disk), "ls", "--", "-l", f"({device})"], check=False).stdout
        size = re.search(r"Total size (\d+)(KiB|B)", said)
        length = int(size[1]) * (1024 if size[2] == "KiB" else 1) if size else None
        found.append(LogicalVolume(device, f"{group}/{volume}".replace("\0", "-"), length))
    return tuple(found)


def copy_head(disk: Path, device: str, length: int, target: Path) -> None:
    """Copy the first bytes of a device to a file.

    Args:
        disk: a raw disk.
        device: as GRUB calls it.
        length: bytes, whole sectors.
        target: the new file.

    Raises:
        MissingProgramError, CommandError.
    """
    run(["grub-fstest", str(disk), "cp", f"({device})0+{length // _SECTOR}", str(target)])


def devices(disk: Path) -> tuple[str, ...]:
    """The devices that GRUB finds in a disk file ("loop0,gpt1", "lvm/system-root").

    Raises:
        MissingProgramError, CommandError.
    """
    said = run(["grub-fstest", str(disk), "ls"]).stdout
    return tuple(re.findall(r"\(([^)]+)\)", said))
