"""Folders for what is looked at and thrown away."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootc_build.onhost.process import run


@contextmanager
def emptied(parent: Path) -> Iterator[Path]:
    """A new folder in another, gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        # Out of a damaged file system comes a folder within itself, deeper than Python's own would go.
        run(["rm", "--recursive", "--force", str(folder)], check=False)
