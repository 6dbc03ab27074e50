"""What the manifest that lies beside a disk says of it: whoever built it knew its checksum."""

import json
from dataclasses import dataclass
from pathlib import Path

from bootc_build.disk.deliver import MANIFEST_SUFFIX
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UserError
from bootc_build.publish.blocks import BlockMap

_REMEDY = "Build the disk again, or copy both files again from where they are whole."


@dataclass(frozen=True)
class RecordedDisk:
    """A disk as its manifest has it.

    Attributes:
        manifest: where that lies.
        file_bytes: the file's length.
        sha256: of the file, in hex.
    """

    manifest: Path
    file_bytes: int
    sha256: str

    def check_size(self, disk: Path) -> None:
        """Require the length, before the file is read.

        Raises:
            UserError: it has another.
        """
        found = disk.stat().st_size
        if found != self.file_bytes:
            raise UserError(
                f"'{disk}' has {found} bytes; when it was built, it had {self.file_bytes} ('{self.manifest}').",
                _REMEDY,
            )

    def check(self, disk: Path, blocks: BlockMap) -> None:
        """Require the checksum.

        Raises:
            UserError: what was read is another file.
        """
        if blocks.file_sha256 != self.sha256:
            raise UserError(
                f"'{disk}' is not as it was built: its SHA-256 is {blocks.file_sha256}, and '{self.manifest}' "
                f"says {self.sha256}.",
                f"{_REMEDY} Where the change is meant, move the manifest away: without it nothing is compared.",
            )


def recorded_disk(disk: Path) -> RecordedDisk | None:
    """What ``NAME.manifest.json`` beside a disk says of it; None where there is none, or it does not list the file.

    Raises:
        UserError: there is one that cannot be read.
    """
    for name in _names(disk):
        manifest = disk.with_name(f"{name}.{MANIFEST_SUFFIX}")
        try:
            document = json.loads(manifest.read_bytes())
            for each in document["disks"]:
                if each["file"] == disk.name:
                    return RecordedDisk(manifest, int(each["fileBytes"]), str(each["sha256"]))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{manifest}', which has the checksum of '{disk}', cannot be read: {error}.",
                f"{_REMEDY} Without a manifest beside the disk nothing is compared.",
            ) from error
    return None


def _names(disk: Path) -> list[str]:
    """What may be the disk's name without the suffix of its type."""
    endings = (f".{kind.suffix}" for kind in DiskType)
    return [disk.name.removesuffix(ending) for ending in endings if disk.name.endswith(ending)]
