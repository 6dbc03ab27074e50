"""Where things are kept that only save time, and where large things lie for a while."""

import os
import tempfile
from pathlib import Path

from bootc_build.tools.rootless import is_system_root


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/bootc-build`; without that, /var/cache/bootc-build for root and ~/.cache for others.

    Every file there may be removed at any moment.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "bootc-build"
    if is_system_root():
        return Path("/var/cache/bootc-build")
    return Path.home() / ".cache/bootc-build"


def scratch_folder() -> Path:
    """Where private folders for large temporary files are made: $TMPDIR, or /var/tmp.

    Not /tmp of itself, which may lie in memory.
    """
    return Path(tempfile.gettempdir() if os.environ.get("TMPDIR") else "/var/tmp")  # noqa: S108 - private folders are made there
