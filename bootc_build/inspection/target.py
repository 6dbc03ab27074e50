"""Tell whether a word on the command line is a disk file or an image, and look into it."""

from pathlib import Path

from bootc_build.inspection.disk import inspect_disk
from bootc_build.inspection.image import inspect_image
from bootc_build.inspection.records import InspectedDisk, InspectedImage

_DISK_SUFFIXES = (".raw", ".qcow2", ".img", ".vmdk", ".vhd", ".vpc", ".vdi", ".ova", ".tar.gz")


def inspect(target: str) -> InspectedDisk | InspectedImage:
    """What is in a disk file, or in an image of local storage.

    Args:
        target: a path of a file, or an image's name or id.

    Raises:
        UserError: neither is there, or it cannot be read.
    """
    path = Path(target)
    # No image's name begins like a path; a folder or a pipe may have an image's name.
    is_path = target.startswith(("/", "./", "../")) or target in {".", ".."}
    is_path = is_path or target.endswith(_DISK_SUFFIXES)
    if is_path or path.is_file() or path.is_block_device():
        return inspect_disk(path)
    return inspect_image(target)
