"""Write file objects straight into the folder of libostree's open transaction.

libostree hashes with a generic SHA-256 (200 MB/s where the processor's own instructions do 1400), asks the
file system for space before each file and sets owner and mode twice. For the thousands of small files of a
layer that is most of an import's time. A file object of a ``bare`` repository is just the file, under the name
of its checksum, so this module makes it with five system calls.

What stays libostree's: the transaction. Objects go to ``tmp/staging-…/XX/`` where it puts its own; ending the
transaction syncs the file system and moves everything from there into ``objects/``; aborting removes it. After
a crash the next transaction of the same boot takes the folder over with all that is in it, so a file gets the
name of an object only when it is complete; what has another name libostree removes. Where the folder is not
found (another repository mode, another libostree), or the repository wants fs-verity, which libostree turns on
file by file, `objects.open_staging` gives None and the caller uses libostree's functions.

The checksum: SHA-256 of the file header, a GVariant ``(uuuusa(ayay))`` of owner, group, mode, device, link
target and extended attributes, prefixed by its size, all numbers big-endian, and then of the content.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.ostree import gvariant

if TYPE_CHECKING:
    from hashlib import _Hash

S_IFREG: Final = 0o100000
_PARTIAL: Final = "bootc-"
_HOLE_BYTES: Final = 64 * 1024
_HOLE: Final = bytes(1024 * 1024)
_HEADER_TYPE: Final = "(uuuusa(ayay))"


class Staging:
    """The open transaction's folder.

    Args:
        folder: file descriptor of it.
        objects: file descriptor of the repository's ``objects``.
    """

    def __init__(self, folder: int, objects: int) -> None:
        self._folder = folder
        self._objects = objects
        self._headers: dict[tuple[int, int, int], _Hash] = {}
        self._user, self._group = os.geteuid(), os.getegid()

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """Write a file that is in memory, unless the repository has it; its checksum."""
        hasher = self._header(uid, gid, mode, xattrs)
        hasher.update(data)
        checksum = hasher.hexdigest()
        name = f"{checksum[:2]}/{checksum[2:]}.file"
        if not self._known(name):
            with self._partial() as (partial, fd):
                _write_all(fd, data)
                self._finish(fd, uid, gid, mode, xattrs)
            self._name(partial, name)
        return checksum

    def write_large_file(
        self,
        uid: int,
        gid: int,
        mode: int,
        xattrs: Mapping[bytes, bytes],
        *,
        chunks: Iterator[bytes],
    ) -> str:
        """Write a file piece by piece; its checksum."""
        hasher = self._header(uid, gid, mode, xattrs)
        with self._partial() as (partial, fd):
            for chunk in chunks:
                hasher.update(chunk)
                _write_or_skip(fd, chunk)
            # The last of it may have been a hole.
            os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
            self._finish(fd, uid, gid, mode, xattrs)
        checksum = hasher.hexdigest()
        name = f"{checksum[:2]}/{checksum[2:]}.file"
        if self._known(name):
            os.unlink(partial, dir_fd=self._folder)
        else:
            self._name(partial, name)
        return checksum

    @contextmanager
    def _partial(self) -> Iterator[tuple[str, int]]:
        """A new file under a name that no object has, and its descriptor."""
        partial = f"{_PARTIAL}{threading.get_native_id()}"
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(partial, flags, 0o600, dir_fd=self._folder)
        try:
            yield partial, fd
        finally:
            os.close(fd)

    def _name(self, partial: str, name: str) -> None:
        try:
            os.rename(partial, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            os.mkdir(name[:2], 0o755, dir_fd=self._folder)
            os.rename(partial, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _known(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self._objects, follow_symlinks=False)

    def _finish(
        self, fd: int, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]
    ) -> None:
        # Owner first: changing it clears the set-user-id bit and file capabilities.
        if (uid, gid) != (self._user, self._group):
            os.fchown(fd, uid, gid)
        for name, value in xattrs.items():
            os.setxattr(fd, name, value)
        os.fchmod(fd, mode)
        os.utime(fd, (0, 0))

    def _header(self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]) -> "_Hash":
        """A fresh hash that has already seen the file header."""
        if xattrs:
            return hashlib.sha256(header(uid, gid, S_IFREG | mode, xattrs))
        key = (uid, gid, mode)
        known = self._headers.get(key)
        if known is None:
            known = self._headers[key] = hashlib.sha256(header(uid, gid, S_IFREG | mode, {}))
        return known.copy()


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, data[written:])


def _write_or_skip(fd: int, data: bytes) -> None:
    """Write a piece of a large file; nothing but zeros becomes a hole."""
    if len(data) >= _HOLE_BYTES and data == _HOLE[: len(data)]:
        os.lseek(fd, len(data), os.SEEK_CUR)
    else:
        _write_all(fd, data)


def header(uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], target: str = "") -> bytes:
    """What a file object's checksum covers before the content.

    Args:
        uid: owner.
        gid: group.
        mode: with the kind.
        xattrs: extended attributes.
        target: of a symbolic link.
    """
    numbers = b"".join(n.to_bytes(4, "big") for n in (uid, gid, mode, 0))
    # The numbers are fixed in front and the attributes come last; only the target's end is noted.
    link = target.encode() + b"\0"
    listed = gvariant.encode(
        "a(ayay)", [(name + b"\0", value) for name, value in sorted(xattrs.items())]
    )
    text = numbers + link + listed
    width = 1 if len(text) + 1 <= 0xFF else 2 if len(text) + 2 <= 0xFFFF else 4  # noqa: PLR2004 - GVariant's limits
    text += (len(numbers) + len(link)).to_bytes(width, "little")
    return len(text).to_bytes(4, "big") + bytes(4) + text
