"""What an image says about the disks that are made of it: bootc-image-builder's files in it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.document import parse_document
from bootc_build.config.partition_table import parse_partition_table
from bootc_build.config.source import ConfigurationSource
from bootc_build.onhost.errors import UsageError

# The first that is there counts.
FOLDERS: Final = ("usr/lib/image-builder/bootc", "usr/lib/bootc-image-builder")
_PARSERS: Final[
    Mapping[str, Callable[[dict[str, Any], str], tuple[DiskConfiguration, ConfigurationSource]]]
] = {
    "config.toml": parse_blueprint,
    "config.json": parse_blueprint,
    "disk.yaml": parse_partition_table,
}


def image_configuration(root: Path) -> tuple[DiskConfiguration, ConfigurationSource] | None:
    """The configuration that an image brings along, and which file says it; None where it brings none.

    Args:
        root: the image's file system.

    Raises:
        UsageError: a file is wrong, or asks for what cannot be done; there are several.
    """
    for folder in FOLDERS:
        names = [name for name in _PARSERS if (root / folder / name).is_file()]
        if len(names) > 1:
            raise UsageError(
                f"The image has {' and '.join(names)} in /{folder}, and only one can be applied.",
                "Give the configuration with --config; then what the image says does not count.",
            )
        for name in names:
            path = root / folder / name
            where = f"/{folder}/{name} of the image"
            document = parse_document(path.read_text(errors="replace"), path.suffix, where)
            return _PARSERS[name](document, where)
    return None
