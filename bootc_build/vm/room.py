"""Whether this computer has room for what a machine writes; asked when something has failed for want of it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from bootc_build.tools.sizes import MIB

_NO_ROOM = 8 * MIB


def full_file_system(paths: Iterable[Path]) -> str | None:
    """A sentence on the first of some files or folders whose file system is full; None if none is.

    Args:
        paths: of what may not exist any more, the folder is looked at.
    """
    for path in paths:
        place = path if path.is_dir() else path.parent
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        if usage.free < _NO_ROOM:
            return (
                f"The file system of '{place}' on this computer is full "
                f"({usage.free // MIB} of {usage.total // MIB} MiB are free)."
            )
    return None
