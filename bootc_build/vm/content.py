"""What a file holds, in one word: a digest that does not depend on the file's name, time or holes.

A large file is read once. The digest is then remembered in the cache folder, as `digests/NAME`, NAME being made
of device, inode, size and both times in nanoseconds: whoever writes to the file changes its name there. A file
of that folder is written by rename; one that cannot be read is as good as none. What was written in the last
two seconds is not remembered: a second change in the same tick of the clock would not show.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.tools.cache import cache_folder
from bootc_build.vm.spec import Disk, DiskFormat

_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000


def content_digest(path: Path, *, cache: Path | None = None) -> str:
    """The digest of a file's bytes.

    Args:
        path: any regular file.
        cache: where digests are remembered; by default in the user's cache folder.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            known = (cache or cache_folder() / "digests") / _identity(status)
            try:
                return known.read_text()
            except OSError:
                digest = _read(file.fileno(), status.st_size)
    except OSError as error:
        raise UserError(f"The file '{path}' cannot be read: {error.strerror}.") from error
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
        _remember(known, digest)
    return digest


def disk_digest(disk: Disk) -> str:
    """The digest of a disk's content, the files below a qcow2 overlay included.

    Raises:
        UserError: a file cannot be read.
        MissingProgramError, CommandError: by qemu-img.
    """
    if disk.format is DiskFormat.RAW:
        return content_digest(disk.path)
    argv = ["qemu-img", "info", "--output=json", "--backing-chain", "--force-share"]
    chain = json.loads(run([*argv, str(disk.path)], timeout=60).stdout)
    digests = [content_digest(Path(image["filename"])) for image in chain]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _identity(status: os.stat_result) -> str:
    facts = (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )
    return hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:24]


def _read(descriptor: int, size: int) -> str:
    """SHA-256 over the size and each MiB that is not all zeroes, with its offset; holes are not read."""
    digest = hashlib.sha256(b"%d" % size)
    offset = 0
    zeroes = bytes(_CHUNK_BYTES)
    while offset < size:
        try:
            data = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:
            break  # ENXIO: a hole up to the end.
        offset = data - data % _CHUNK_BYTES
        chunk = os.pread(descriptor, _CHUNK_BYTES, offset)
        if not chunk:
            break
        if chunk != zeroes[: len(chunk)]:
            digest.update(b"@%d:" % offset)
            digest.update(chunk)
        offset += _CHUNK_BYTES
    return digest.hexdigest()


def _remember(known: Path, digest: str) -> None:
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        temporary = known.with_suffix(f".{os.getpid()}")
        temporary.write_text(digest)
        temporary.replace(known)
    except OSError:
        return  # It only saves reading the file again.
