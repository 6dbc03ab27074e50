"""Which image is installed: the one that this container was made from, or one that is named."""

import os
import re
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference

_CONTAINERENV: Final = Path("/run/.containerenv")
_STORAGE: Final = Path("/var/lib/containers/storage")
_LINE: Final = re.compile(r'(?P<key>\w+)="?(?P<value>[^"\n]*)"?')


def parse_containerenv(text: str) -> dict[str, str]:
    """Read podman's /run/.containerenv: ``key="value"`` a line."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {each["key"]: each["value"] for each in found if each}


def running_image(
    containerenv: Path = _CONTAINERENV, storage: Path = _STORAGE
) -> tuple[ImageReference, ImageReference]:
    """The image that this container runs: by its id in the host's storage, and by its name.

    Raises:
        UserError: not in a podman container, in a rootless one, or the host's storage is not there.
    """
    if not containerenv.is_file():
        raise UserError(
            "Either --source-imgref must be defined or this command must be executed inside a podman container.",
            "Name the image, for example: --source-imgref docker://quay.io/example/os:1",
        )
    facts = parse_containerenv(containerenv.read_text())
    if facts.get("rootless") == "1":
        raise UserError(
            "Cannot install from rootless podman; this command must be run as root.",
            "Run podman with sudo.",
        )
    name, identifier = facts.get("image", ""), facts.get("imageid", "")
    if not identifier or not name:
        raise UserError(
            f"{containerenv} does not say which image this container runs.",
            "Run the container with podman and --privileged, or give --source-imgref.",
        )
    if not os.path.ismount(storage.parent) and not (storage / "overlay-images").is_dir():
        raise UserError(
            f"The host's container storage is not at {storage.parent}, so the image cannot be read.",
            "Run the container with: -v /var/lib/containers:/var/lib/containers",
        )
    source = ImageReference("containers-storage", f"@{identifier}")
    return source, ImageReference("registry", name)
