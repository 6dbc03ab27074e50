"""mtools: FAT file systems inside a disk file, without a mount."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import CommandError, run

_SECTOR = 512
_CLUSTER_SECTORS = 2


@dataclass(frozen=True)
class FatVolume:
    """A FAT32 file system at a place in a file.

    Args:
        disk: the file.
        offset: first byte.
        size: length in bytes.
        timestamp: seconds since the epoch, for times that would otherwise be "now".
    """

    disk: Path
    offset: int
    size: int
    timestamp: int

    def format(self, serial: int, label: str) -> None:
        """Make it, empty.

        Args:
            serial: 32 bits.
            label: eleven characters at most.

        Raises:
            MissingProgramError, CommandError.
        """
        geometry = ["-T", str(self.size // _SECTOR), "-h", "255", "-s", "63"]
        kind = ["-F", "-c", str(_CLUSTER_SECTORS), "-N", f"{serial:08x}", "-v", label]
        self._run(["mformat", *self._drive, *geometry, *kind, "::"])

    def copy_tree(self, tree: Path) -> None:
        """Copy the files and folders of ``tree`` into it, in the order of their names; links are followed.

        Raises:
            CommandError.
        """
        entries = sorted(tree.rglob("*"))
        folders = [f"::/{path.relative_to(tree)}" for path in entries if path.is_dir()]
        if folders:
            self._run(["mmd", *self._drive, *folders])
        for parent in [tree, *(path for path in entries if path.is_dir())]:
            files = sorted(str(path) for path in parent.iterdir() if path.is_file())
            if files:
                target = f"::/{parent.relative_to(tree)}/"
                self._run(["mcopy", *self._drive, "-Q", "-m", *files, target])

    def names(self) -> list[str]:
        """Every file in it ("EFI/BOOT/BOOTX64.EFI"), sorted."""
        said = self._run(["mdir", *self._drive, "-/", "-b", "::"])
        return sorted(line.removeprefix("::/") for line in said.splitlines() if line[-1:] != "/")

    def read(self, path: str) -> bytes | None:
        """A file's content ("EFI/BOOT/BOOTX64.EFI"); None when there is no such file.

        Raises:
            MissingProgramError.
        """
        with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
            target = Path(folder, "content")
            try:
                self._run(["mcopy", *self._drive, "-n", f"::/{path.lstrip('/')}", str(target)])
            except CommandError:
                return None
            return target.read_bytes()

    def clusters(self, path: str) -> list[tuple[int, int]]:
        """The runs of clusters, first and last, that a file's content is in.

        Raises:
            MissingProgramError, CommandError.
        """
        said = self._run(["mshowfat", *self._drive, f"::/{path.lstrip('/')}"])
        runs = re.findall(r"<(\d+)(?:-(\d+))?>", said)
        return [(int(first), int(last or first)) for first, last in runs]

    @property
    def _drive(self) -> Sequence[str]:
        return ["-i", f"{self.disk}@@{self.offset}"]

    def _run(self, argv: Sequence[str]) -> str:
        env: Mapping[str, str] = {
            "TZ": "UTC",
            "MTOOLS_SKIP_CHECK": "1",
            "SOURCE_DATE_EPOCH": str(self.timestamp),
        }
        return run(argv, env=env).stdout
