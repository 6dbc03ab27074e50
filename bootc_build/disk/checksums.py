"""SHA-256 of disk files, computed while they are written and while other things go on."""

import errno
import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, Self

from bootc_build.disk.formats import data_extents
from bootc_build.tools.sizes import MIB

_ZEROS: Final = memoryview(bytes(MIB))


class Checksums:
    """SHA-256 of files, in hex; a context manager.

    Files go to the disk beside that. What is not finished when the block ends is given up.
    """

    def __init__(self) -> None:
        self._given_up = threading.Event()
        # One more, which waits for the disk.
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 1)
        self._reading: dict[Path, _Reading] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._given_up.set()
        for each in self._reading.values():
            each.go_on(0)
        self._pool.shutdown(cancel_futures=True)

    def begin(self, file: Path) -> Future[str]:
        """Begin with a file that is finished, or go on with it; it may be renamed from now on.

        Raises:
            OSError: by the result, too.
        """
        reading = self._reading.get(file) or self._begun(file)
        reading.go_on(file.stat().st_size, last=True)
        return reading.result

    def begin_sync(self, file: Path) -> Future[None]:
        """Begin to have a finished file on the disk.

        Raises:
            OSError: by the result: it cannot be written there.
        """
        return self._pool.submit(sync, file)

    def advance(self, file: Path, end: int) -> None:
        """Begin with a file that is being written, or go on: so many bytes from its beginning are as they stay.

        Raises:
            OSError: the file cannot be read.
        """
        (self._reading.get(file) or self._begun(file)).go_on(end)

    def _begun(self, file: Path) -> "_Reading":
        reading = _Reading(file.open("rb", buffering=0), self._given_up)
        reading.result = self._pool.submit(reading.digest)
        self._reading[file] = reading
        return reading


class _Reading:
    """One file, which is read as far as it is written."""

    result: Future[str]

    def __init__(self, content: IO[bytes], given_up: threading.Event) -> None:
        self._content = content
        self._given_up = given_up
        self._changed = threading.Condition()
        self._written = 0
        self._complete = False

    def go_on(self, written: int, *, last: bool = False) -> None:
        """So many bytes are there; whether these are all."""
        with self._changed:
            self._written = max(self._written, written)
            self._complete = self._complete or last
            self._changed.notify()

    def digest(self) -> str:
        """Wait for the last byte."""
        digest, done = hashlib.sha256(), 0
        space = memoryview(bytearray(len(_ZEROS)))
        with self._content:
            while not self._given_up.is_set():
                with self._changed:
                    while not (self._complete or self._written > done or self._given_up.is_set()):
                        self._changed.wait()
                    written, complete = self._written, self._complete
                # A hole is hashed without being read.
                for start, end in (
                    *data_extents(self._content.fileno(), written, done),
                    (written, written),
                ):
                    self._add(digest, done, min(start, written), space, hole=True)
                    self._add(digest, max(start, done), min(end, written), space, hole=False)
                    done = min(end, written)
                if complete:
                    break
        return digest.hexdigest()

    def _add(
        self, digest: "hashlib._Hash", at: int, end: int, space: memoryview, *, hole: bool
    ) -> None:
        while at < end and not self._given_up.is_set():
            part = (_ZEROS if hole else space)[: end - at]
            if not hole:
                part = part[: os.preadv(self._content.fileno(), [part], at)]
                if not part:
                    raise OSError(errno.EIO, "The file became shorter", self._content.name)
            digest.update(part)
            at += len(part)


def sync(path: Path) -> None:
    """Have a file or folder on the disk.

    Raises:
        OSError: it cannot be written there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
