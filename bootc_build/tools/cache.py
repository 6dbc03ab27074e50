"""Where things are kept that only save time: every file there may be removed at any moment."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/bootc-build`; without that, /var/cache/bootc-build for root and ~/.cache for others."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "bootc-build"
    if os.geteuid() == 0:
        return Path("/var/cache/bootc-build")
    return Path.home() / ".cache/bootc-build"
