"""The objects of one layer in a folder of their own, written and checked without libostree.

They are what a ``bare`` repository has: a file object is the file itself with its owner, mode and attributes, the
others are serialised GVariants; each has its checksum for a name. Formats: ostree's ``ostree-core.h``
(``OSTREE_COMMIT_GVARIANT_FORMAT``, ``OSTREE_DIRMETA_GVARIANT_FORMAT`` and, for the checksums of files, the header).
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bootc_build.onhost.ostree import gvariant
from bootc_build.onhost.ostree.importer import META_DIFF_ID
from bootc_build.onhost.ostree.staging import Staging, header
from bootc_build.onhost.ostree.tree import Directory, encode

if TYPE_CHECKING:
    from hashlib import _Hash

_COMMIT: Final = "(a{sv}aya(say)sstayay)"
_CHUNK: Final = 1 << 20
# The kernel of a build machine with SELinux gives every file one; it is not the object's.
_OF_THE_MACHINE: Final = b"security.selinux"


class _Files(Staging):
    """File objects, which have their names at once: nobody looks before all are whole, see `LayerObjects`."""

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """Write a file that is in memory, unless it is there; its checksum."""
        seen = self._header(uid, gid, mode, xattrs)
        seen.update(data)
        checksum = seen.hexdigest()
        fd = _new_file(self._folder, _name(checksum, "file"))
        if fd is not None:
            try:
                _write_all(fd, data)
                self._finish(fd, uid, gid, mode, xattrs)
            finally:
                os.close(fd)
        return checksum


class LayerObjects:
    """A folder that objects are written to (see `onhost.ostree.importer.LayerStore`); a context manager.

    What could not be written whole stays: after an error the folder is of no use.

    Args:
        folder: exists, and is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files = _Files(self._folder, self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._folder)

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """A regular file in memory."""
        return self._files.write_file(uid, gid, mode, xattrs, data)

    def write_large_file(
        self,
        uid: int,
        gid: int,
        mode: int,
        xattrs: Mapping[bytes, bytes],
        *,
        size: int,  # noqa: ARG002 - libostree wants it
        chunks: Iterator[bytes],
    ) -> str:
        """A regular file piece by piece."""
        return self._files.write_large_file(uid, gid, mode, xattrs, chunks=chunks)

    def write_symlink(self, uid: int, gid: int, xattrs: Mapping[bytes, bytes], target: str) -> str:
        """A symbolic link."""
        seen = header(uid, gid, stat.S_IFLNK | 0o777, xattrs, target)
        checksum = hashlib.sha256(seen).hexdigest()
        name = _name(checksum, "file")
        if _new_link(self._folder, name, target):
            os.chown(name, uid, gid, dir_fd=self._folder, follow_symlinks=False)
            path = f"/proc/self/fd/{self._folder}/{name}"
            for key, value in xattrs.items():
                os.setxattr(path, key, value, follow_symlinks=False)
            os.utime(name, (0, 0), dir_fd=self._folder, follow_symlinks=False)
        return checksum

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]) -> str:
        """Owner, permissions and attributes of a directory."""
        numbers = b"".join(n.to_bytes(4, "big") for n in (uid, gid, stat.S_IFDIR | mode))
        listed = [(name + b"\0", value) for name, value in sorted(xattrs.items())]
        return self._write(numbers + gvariant.encode("a(ayay)", listed), "dirmeta")

    def write_directory(self, directory: Directory) -> str:
        """The names in a directory."""
        return self._write(encode(directory), "dirtree")

    def write_commit(
        self,
        tree: str,
        dirmeta: str,
        metadata: Mapping[str, tuple[str, object]],
        timestamp: int,
    ) -> str:
        """A commit without a parent."""
        # Numbers are in the machine's order for GVariant and big-endian for ostree.
        swapped = int.from_bytes(
            gvariant.encode("t", timestamp), "big" if gvariant.encode("n", 1)[0] else "little"
        )
        roots = (bytes.fromhex(tree), bytes.fromhex(dirmeta))
        return self._write(
            gvariant.encode(_COMMIT, (metadata, b"", (), "", "", swapped, *roots)), "commit"
        )

    def has_file(self, checksum: str) -> bool:
        """Whether there is such a file object."""
        return os.access(
            _name(checksum, "file"), os.F_OK, dir_fd=self._folder, follow_symlinks=False
        )

    def _write(self, data: bytes, kind: str) -> str:
        checksum = hashlib.sha256(data).hexdigest()
        fd = _new_file(self._folder, _name(checksum, kind))
        if fd is not None:
            try:
                _write_all(fd, data)
                # Whatever the umask.
                os.fchmod(fd, 0o644)
                os.utime(fd, (0, 0))
            finally:
                os.close(fd)
        return checksum


def _new_file(folder: int, name: str) -> int | None:
    """A descriptor of a new object's file; None where there is such an object."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=folder)
    except FileExistsError:
        return None
    except FileNotFoundError:
        _make_folder(folder, name)
    return _new_file(folder, name)


def _new_link(folder: int, name: str, target: str) -> bool:
    """Make a symbolic link; False where there is such an object."""
    try:
        os.symlink(target, name, dir_fd=folder)
    except FileExistsError:
        return False
    except FileNotFoundError:
        _make_folder(folder, name)
        return _new_link(folder, name, target)
    return True


def _make_folder(folder: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name[:2], 0o755, dir_fd=folder)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def names(objects: Path) -> list[str]:
    """The objects in a folder, as "ab/cdef….file", sorted."""
    found = []
    for folder in os.listdir(objects):  # noqa: PTH208 - names only
        found += [f"{folder}/{name}" for name in os.listdir(objects / folder)]  # noqa: PTH208
    return sorted(found)


def diff_id(objects: Path, commit: str) -> str:
    """Of which layer a commit is.

    Raises:
        OSError, ValueError, KeyError: it is none of a layer.
    """
    decoded = gvariant.decode(_COMMIT, (objects / _name(commit, "commit")).read_bytes())
    assert isinstance(decoded, tuple)  # noqa: S101 - what such a type decodes to
    return str(decoded[0][META_DIFF_ID])


def is_whole(objects: Path, name: str) -> bool:
    """Whether an object is what its name says: content, owner, mode, attributes.

    Raises:
        OSError: it cannot be read.
    """
    path = f"{objects}/{name}"
    wanted = name.partition(".")[0].replace("/", "")
    if not name.endswith(".file"):
        with _opened(path) as (fd, size):
            return _hashed([hashlib.sha256()], fd, size)[0] == wanted
    status = os.lstat(path)
    owners = (status.st_uid, status.st_gid, status.st_mode)
    if stat.S_ISREG(status.st_mode):
        with _opened(path) as (fd, size):
            xattrs = {os.fsencode(key): os.getxattr(fd, key) for key in os.listxattr(fd)}
            return wanted in _hashed(begun(owners, xattrs), fd, size)
    xattrs = {
        os.fsencode(key): os.getxattr(path, key, follow_symlinks=False)
        for key in os.listxattr(path, follow_symlinks=False)
    }
    target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""  # noqa: PTH115 - thousands of them
    return wanted in [each.hexdigest() for each in begun(owners, xattrs, target)]


def begun(
    owners: tuple[int, int, int], xattrs: dict[bytes, bytes], target: str = ""
) -> "list[_Hash]":
    """Hashes that have seen an object's header: with all its attributes, and without the machine's own.

    Args:
        owners: user, group and mode.
        xattrs: by name.
        target: of a symbolic link.
    """
    if not xattrs and not target:
        return [_plain(*owners).copy()]
    found = [hashlib.sha256(header(*owners, xattrs, target))]
    if _OF_THE_MACHINE in xattrs:
        del xattrs[_OF_THE_MACHINE]
        found.append(hashlib.sha256(header(*owners, xattrs, target)))
    return found


@cache
def _plain(uid: int, gid: int, mode: int) -> "_Hash":
    return hashlib.sha256(header(uid, gid, mode, {}))


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, int]]:
    """A descriptor of a file, and its length."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd, os.fstat(fd).st_size
    finally:
        os.close(fd)


def _hashed(digests: "list[_Hash]", fd: int, size: int) -> list[str]:
    # A byte more, so that a short read says that it was the last.
    wanted = min(size + 1, _CHUNK)
    while chunk := os.read(fd, wanted):
        for digest in digests:
            digest.update(chunk)
        if len(chunk) < wanted:
            break
    return [digest.hexdigest() for digest in digests]


def _name(checksum: str, kind: str) -> str:
    return f"{checksum[:2]}/{checksum[2:]}.{kind}"
