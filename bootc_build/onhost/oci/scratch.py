"""Folders for what skopeo unpacks while an image is fetched; those of killed processes go with the next fetch.

Layout: `bootc-fetch-XXXXXXXX` with a file `lock`, on which the process that made the folder holds a lock (flock) for as
long as it is there. The kernel gives locks up with their process, so a folder whose lock is free is a dead one's. The
file appears by rename, locked: no sweeper ever sees it free in between. A folder without it is left alone.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# Where skopeo by itself unpacks archives, which may be too large for memory; a folder of its own is made there.
LARGE_FILES: Final = Path("/var/tmp")  # noqa: S108
_PREFIX: Final = "bootc-fetch-"
_LOCK: Final = "lock"


@contextmanager
def fetch_folder() -> Iterator[Path]:
    """A private folder for large files, for the length of the block.

    Raises:
        OSError: it cannot be made.
    """
    sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_parent()) as name:
        folder = Path(name)
        new = folder / f"{_LOCK}.new"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            new.rename(folder / _LOCK)
            yield folder
        finally:
            os.close(descriptor)


def sweep() -> None:
    """Remove this user's folders whose process is dead, as far as that can be done."""
    for lock in _parent().glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):
            _remove_if_dead(lock)


def _remove_if_dead(lock: Path) -> None:
    # Anybody may make folders there; a link would lead elsewhere.
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid == lock.parent.lstat().st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
    finally:
        os.close(descriptor)


def _parent() -> Path:
    return LARGE_FILES if os.access(LARGE_FILES, os.W_OK) else Path(tempfile.gettempdir())
