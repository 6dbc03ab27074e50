"""What an image says about the disks that are made of it: bootc-image-builder's files in it."""

from pathlib import Path
from typing import Final

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.document import parse_document
from bootc_build.onhost.errors import UserError

# The first that is there counts.
FOLDERS: Final = ("usr/lib/image-builder/bootc", "usr/lib/bootc-image-builder")
_NAMES: Final = ("config.toml", "config.json")
_PARTITION_TABLE: Final = "disk.yaml"


def image_configuration(root: Path) -> DiskConfiguration | None:
    """The configuration that an image brings along; None where it brings none.

    Args:
        root: the image's file system.

    Raises:
        UserError: a file is wrong, asks for what cannot be done, or is of a kind that is not read.
    """
    for folder in FOLDERS:
        if (root / folder / _PARTITION_TABLE).exists():
            raise UserError(
                f"The image has a partition table of osbuild's in /{folder}/{_PARTITION_TABLE}, which is not read.",
                "Give the layout with --config; then what the image says does not count.",
            )
        for name in _NAMES:
            path = root / folder / name
            if path.is_file():
                where = f"/{folder}/{name} of the image"
                text = path.read_text(errors="replace")
                return parse_blueprint(parse_document(text, path.suffix, where), where)
    return None
