"""grub-fstest: read what is in a disk file through GRUB's own drivers (btrfs, xfs, LVM and more), no mount."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import CommandError, run

# GRUB says so of a path, and "file … not found" of another.
_ABSENT = ("not found", "not a directory", "not a regular file", "invalid file name")


@dataclass(frozen=True)
class GrubTree:
    """One file system of a disk file.

    Args:
        disk: a raw disk.
        device: as GRUB calls it: "loop0,gpt4", "lvm/system-root".
    """

    disk: Path
    device: str

    def require(self) -> None:
        """Look whether the file system can be read.

        Raises:
            MissingProgramError, CommandError: it cannot.
        """
        run(["grub-fstest", str(self.disk), "ls", f"({self.device})/"])

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in a folder, sorted; empty when there is no such folder."""
        done = run(["grub-fstest", str(self.disk), "ls", f"({self.device}){folder}/"], check=False)
        # Folders end with a slash, names are parted by blanks.
        found = done.stdout.split() if done.status == 0 else []
        return tuple(sorted({name.rstrip("/") for name in found} - {".", ".."}))

    def read(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is no such file.

        Raises:
            MissingProgramError, CommandError: the file system cannot be read.
        """
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


def devices(disk: Path) -> tuple[str, ...]:
    """The devices that GRUB finds in a disk file ("loop0,gpt1", "lvm/system-root").

    Raises:
        MissingProgramError, CommandError.
    """
    said = run(["grub-fstest", str(disk), "ls"]).stdout
    return tuple(re.findall(r"\(([^)]+)\)", said))
