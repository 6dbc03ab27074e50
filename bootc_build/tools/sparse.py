"""Files with holes: copying what is not a hole from or to a place in another file."""

import os
from pathlib import Path

_CHUNK = 16 * 1024 * 1024


def copy_into(source: Path, target: Path, offset: int) -> None:
    """Copy the data of a file to a place in another one, which has to read as zeros there; holes stay holes.

    Args:
        source: the file.
        target: exists already.
        offset: the first byte in it.

    Raises:
        OSError: no space left.
    """
    with source.open("rb") as read, target.open("r+b") as write:
        end, size = 0, source.stat().st_size
        while end < size:
            try:
                start = os.lseek(read.fileno(), end, os.SEEK_DATA)
            except OSError:  # the rest is a hole
                return
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            position = start
            while position < end:
                count = min(_CHUNK, end - position)
                position += os.copy_file_range(
                    read.fileno(), write.fileno(), count, position, offset + position
                )


def copy_range(source: Path, target: Path, *, start: int = 0, size: int | None = None) -> None:
    """Make a new file of a part of another; holes stay holes.

    Args:
        source: the file.
        target: the new one, which begins with what is at ``start``.
        start: in bytes.
        size: of the part, in bytes; by default all that follows.
    """
    with source.open("rb") as reading, target.open("wb") as writing:
        end = start + size if size is not None else os.fstat(reading.fileno()).st_size
        position = start
        while position < end:
            try:
                data = os.lseek(reading.fileno(), position, os.SEEK_DATA)
            except OSError:  # the rest is a hole
                break
            hole = os.lseek(reading.fileno(), data, os.SEEK_HOLE)
            position = data
            while position < min(hole, end):
                length = min(hole, end) - position
                position += os.copy_file_range(
                    reading.fileno(),
                    writing.fileno(),
                    min(length, _CHUNK),
                    position,
                    position - start,
                )
        writing.truncate(end - start)
