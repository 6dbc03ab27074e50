"""A cache of large things that several processes make, use and remove at the same time.

Layout: below the shelf's folder `KEY/` is a whole thing, `KEY.lock` its lock, `KEY.partial/` one that is being
made or whose maker died.

Locking: who uses a thing holds `KEY.lock` shared for as long; who makes or removes one holds it exclusively.
These are flock locks, which the kernel gives up with the process, so nothing stays locked. Two processes that
want the same thing at the same time make it once: the second waits. A lock file is removed with its thing,
while it is held; whoever has opened the removed file finds that it has no name any more, and starts again.

Crashes: a thing appears by rename, after its bytes are on the disk (unless the shelf is not durable). What a dead maker left (`KEY.partial`
whose lock is free) is removed by the next one who makes anything on the shelf, or by `sweep`.

Size: after something was made, the things that were not used for the longest go until the rest fits the
bound; never one that is in use, so the bound is soft. Last use is the lock file's time; in it stands the number of
bytes that the thing takes, since a thing may be 100,000 files. Nobody changes what is on a shelf.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import parse_size

_LOCK = ".lock"
_PARTIAL = ".partial"
_STAT_BLOCK = 512


@dataclass(frozen=True)
class Shelved:
    """What is known of a thing on a shelf.

    Args:
        key: its name.
        path: its folder.
        stored_bytes: what it takes on the disk (holes take nothing).
        used: when it was last used, in seconds since 1970.
        in_use: whether a process uses it now.
    """

    key: str
    path: Path
    stored_bytes: int
    used: float
    in_use: bool


class Held:
    """A thing that is in use; a context manager that lets go of it at the end.

    Args:
        path: its folder.
        lock: descriptor with the shared lock; closed at the end.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; it may be removed from now on."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Shelf:
    """A folder of things by key, of bounded size.

    Args:
        folder: made when the first thing is; only its owner can look into it.
        bound: bytes on the disk.
        durable: a thing is on the disk before it appears; False where whoever takes one checks it anyway.
    """

    def __init__(self, folder: Path, bound: int, *, durable: bool = True) -> None:
        self.folder = folder
        self.bound = bound
        self._durable = durable

    def find(self, key: str) -> Held | None:
        """Take a thing if it is there."""
        if not self._place(key).is_dir():
            return None
        lock = self._open_lock(key)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return self._hold(key, lock)

    def obtain(self, key: str, make: Callable[[Path], None]) -> Held:
        """Take a thing, made first if it is not there.

        Args:
            key: its name; what it depends on has to be part of it.
            make: fills the folder that it is given, which is there and empty.
        """
        while True:
            # Shared first: this is where one waits for a maker, but not for those who only use the thing.
            lock = self._open_lock(key)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if (held := self._hold(key, lock)) is not None:
                return held
            with self._exclusive(key) as mine:
                if mine is not None and not self._place(key).is_dir():
                    _write_size(mine, self._make(key, make))
                    os.utime(mine)
                    self.trim(keep=key)

    def discard(self, key: str) -> bool:
        """Remove a thing unless it is in use; whether it is gone."""
        with self._exclusive(key) as lock:
            if lock is None:
                return not self._place(key).exists()
            _remove(self._place(key), self._partial(key))
            self._lock_path(key).unlink(missing_ok=True)
            return True

    def things(self) -> list[Shelved]:
        """What is on the shelf, the longest unused first."""
        found = []
        for path in self._folders():
            if path.suffix != _PARTIAL:
                with suppress(FileNotFoundError):
                    found.append(self._describe(path))
        return sorted(found, key=lambda thing: thing.used)

    def trim(self, bound: int | None = None, *, keep: str | None = None) -> list[Shelved]:
        """Remove the longest unused until the rest fits; return what was removed.

        Args:
            bound: bytes; by default the shelf's own.
            keep: the key of one that stays in any case.
        """
        self.sweep()
        limit = self.bound if bound is None else bound
        things = self.things()
        total = sum(thing.stored_bytes for thing in things)
        removed = []
        for thing in things:
            if total <= limit:
                break
            if thing.key != keep and not thing.in_use and self.discard(thing.key):
                total -= thing.stored_bytes
                removed.append(thing)
        return removed

    def remove_unused_since(self, moment: float) -> list[Shelved]:
        """Remove what was not used since then (seconds since 1970); return what was removed."""
        self.sweep()
        return [thing for thing in self.things() if thing.used < moment and self.discard(thing.key)]

    def sweep(self) -> None:
        """Remove what makers left that died."""
        for path in self._folders():
            if path.suffix == _PARTIAL:
                with self._exclusive(path.stem) as lock:
                    if lock is not None:
                        _remove(path)
                        if not self._place(path.stem).exists():
                            self._lock_path(path.stem).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        return self.folder / key

    def _partial(self, key: str) -> Path:
        return self.folder / f"{key}{_PARTIAL}"

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}{_LOCK}"

    def _folders(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []

    def _open_lock(self, key: str) -> int:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(self._lock_path(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _hold(self, key: str, lock: int) -> Held | None:
        """Turn a shared lock into a hold; closes it if there is nothing to hold."""
        if os.fstat(lock).st_nlink == 0 or not self._place(key).is_dir():
            os.close(lock)
            return None
        os.utime(lock)
        return Held(self._place(key), lock)

    @contextmanager
    def _exclusive(self, key: str) -> Iterator[int | None]:
        """The exclusive lock; None if it is not to be had at once, or was removed meanwhile."""
        lock = self._open_lock(key)
        try:
            yield lock if _locked_alone(lock) and os.fstat(lock).st_nlink else None
        finally:
            os.close(lock)

    def _make(self, key: str, make: Callable[[Path], None]) -> int:
        """Make a thing; how many bytes it takes."""
        partial = self._partial(key)
        _remove(partial)
        partial.mkdir(mode=0o700)
        try:
            make(partial)
            if self._durable:
                _flush(partial)
            size = _stored_bytes(partial)
            partial.rename(self._place(key))
        except BaseException:
            _remove(partial)
            raise
        return size

    def _describe(self, path: Path) -> Shelved:
        lock = self._open_lock(path.name)
        try:
            used = os.fstat(lock).st_mtime
            in_use = not _locked_alone(lock)
            stored = _read_size(lock)
        finally:
            os.close(lock)
        if stored is None:
            stored = _stored_bytes(path)
        return Shelved(path.name, path, stored, used, in_use)


def _write_size(lock: int, size: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{size}\n".encode(), 0)


def _read_size(lock: int) -> int | None:
    """What was written, whole; None where that is not so: the maker died, or was of an earlier version."""
    text = os.pread(lock, 32, 0)
    return int(text) if text.endswith(b"\n") and text[:-1].isdigit() else None


def _stored_bytes(folder: Path) -> int:
    blocks = folder.lstat().st_blocks
    pending = [os.fspath(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                blocks += entry.stat(follow_symlinks=False).st_blocks
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return blocks * _STAT_BLOCK


def chosen_bound(variable: str, default: int) -> int:
    """The bound of a shelf in bytes: an environment variable's, or the default.

    Raises:
        UsageError: the variable is not a size.
    """
    value = os.environ.get(variable, "")
    if not value:
        return default
    try:
        return parse_size(value)
    except UsageError as error:
        raise UsageError(f"{variable}: {error.fact}", error.remedy) from None


def _locked_alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush(folder: Path) -> None:
    """Have a folder's files on the disk: a rename that outlives a power cut has to find them there."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
