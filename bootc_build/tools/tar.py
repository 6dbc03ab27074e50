"""GNU tar: the archive that Google Compute Engine takes."""

import os
from pathlib import Path

from bootc_build.onhost.process import run


def write_sparse_archive(file: Path, archive: Path, timestamp: int) -> None:
    """Put one file into a tar of the format oldgnu, its holes left out, compressed with gzip.

    The archive depends on the file's bytes and name alone: which parts are holes is read from the content and
    not asked of the file system, and neither tar nor gzip note when and by whom they were run.

    Args:
        file: what goes in, under its own name; it has holes, or tar would not look for any.
        archive: the new file.
        timestamp: seconds since the epoch, the member's time.

    Raises:
        MissingProgramError, CommandError.
    """
    # With one processor pigz goes another way and writes other bytes; from two on the number does not matter.
    processors = max(2, os.cpu_count() or 1)
    run(
        [
            "tar",
            *("--create", "--format=oldgnu", "--sparse", "--hole-detection=raw"),
            *("--owner=0", "--group=0", "--numeric-owner", "--mode=0644", f"--mtime=@{timestamp}"),
            *("--use-compress-program", f"pigz --no-name --no-time --processes {processors}"),
            *("--file", str(archive), "--directory", str(file.parent), file.name),
        ],
        remedy="Is there space left? See: df -h",
    )
