"""The folder that a disk is made in: beside the output, on the same file system, gone at the end.

Layout: ``OUTPUT/.bootc-build-XXXXXXXX/`` with whatever the steps put there. A finished disk leaves it by
rename. The folder is removed however the block ends; while it is removed signals wait, so that a second
Ctrl-C does not leave half of it. Whoever uses a folder holds a lock (flock) on it: what a killed run left
is unlocked, and the next run in the same output removes it.
"""

import fcntl
import os
import shutil
import signal
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UserError

# What buildah's volumes, libext2fs and mtools part a path from something else by.
_MARKS = (":", "?", "@@")
_PREFIX = ".bootc-build-"
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_PROTECTED = 0x10 | 0x20  # immutable, append-only
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def work_tree(output: Path) -> Iterator[Path]:
    """A private folder in ``output`` (made if need be), for the length of the ``with`` block.

    Raises:
        UserError: nothing can be written there, or not by all programs.
    """
    marks = [mark for mark in _MARKS if mark in str(output.resolve())]
    if marks:
        raise UserError(
            f"No disk can be made in '{output.resolve()}': to the programs that make it '{marks[0]}' ends a path.",
            "Give another folder with --output.",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Absolute, since programs are told of it that run elsewhere.
        folder, lock = _make_locked_folder(output.resolve())
    except OSError as error:
        raise UserError(
            f"Nothing can be written in {output}: {error.strerror}.",
            "Give another folder with --output.",
        ) from error
    try:
        yield folder
    finally:
        remove_tree(folder)
        os.close(lock)


def _make_locked_folder(output: Path) -> tuple[Path, int]:
    """A new folder and the lock on it; folders that a killed run left unlocked are removed."""
    with _locked(output, wait=True):
        for left in output.glob(f"{_PREFIX}*"):
            with _locked(left, wait=False) as nobody_uses_it:
                if nobody_uses_it:
                    remove_tree(left)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder, lock


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it, files with the immutable flag too. None there is no error."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        shutil.rmtree(folder, onerror=_unprotect_and_retry)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread while the block runs; it is done when the block ends, however that ends.

    Raises:
        Exception: what the work raised, unless the block raises something itself.
    """
    failures: list[Exception] = []

    def do() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=do, name="beside")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _unprotect_and_retry(function: Callable[..., Any], path: str, failure: Any) -> None:  # noqa: ANN401 - shutil's protocol
    error = failure[1]
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error
    for protected in (os.path.dirname(path), path):  # noqa: PTH120 - str, as shutil has it
        _drop_flags(protected)
    if function in (os.unlink, os.rmdir):
        function(path)
    else:
        shutil.rmtree(path)


def _drop_flags(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8)))
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("l", flags & ~_PROTECTED))
    except OSError:
        return
    finally:
        os.close(descriptor)
