"""Any disk file as a raw one: as it is, or unpacked to a sparse file for a while."""

import errno
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError
from bootc_build.tools import qemu_img, vhd
from bootc_build.tools.cache import scratch_folder
from bootc_build.tools.sizes import in_words

_GZIP = b"\x1f\x8b"
_TAR_AT, _TAR = 257, b"ustar"
_CHUNK = 1 << 20
# QEMU's names -> those of `bootc-build disk --type`.
_NAMES = {"vpc": "vhd"}
_COPY_AGAIN = (
    "Copy the file again, wholly, and compare its sha256 with the one in NAME.manifest.json."
)
_DISKS_IN_ARCHIVES = (".raw", ".vmdk", ".qcow2", ".img")


@dataclass(frozen=True)
class OpenedDisk:
    """A disk that can be read.

    Attributes:
        raw: a raw disk file with its bytes; not to be written to.
        format: of the file that was given: "raw", "qcow2", "vmdk", "vhd", "tar of raw" and so on.
        disk_bytes: size of the disk that a machine sees.
        stored_bytes: what the file that was given takes in storage.
    """

    raw: Path
    format: str
    disk_bytes: int
    stored_bytes: int


@contextmanager
def opened(disk: Path) -> Iterator[OpenedDisk]:
    """A disk file as raw bytes, for the length of the ``with`` block; also while a machine uses it.

    Raises:
        UserError: it cannot be read, or is no disk.
    """
    try:
        status = disk.stat()
        _require_disk(disk, status.st_mode)
        with disk.open("rb") as file:
            head = file.read(_TAR_AT + len(_TAR))
            length = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise UserError(
            f"The disk '{disk}' cannot be read: {error.strerror}.", _remedy(disk, error)
        ) from error
    if not head:
        raise UserError(f"'{disk}' is empty.", "Make a disk: bootc-build disk IMAGE")
    # A device takes no storage of a file system; what it has is all there.
    stored = length if stat.S_ISBLK(status.st_mode) else status.st_blocks * 512
    with tempfile.TemporaryDirectory(prefix="bootc-build-", dir=scratch_folder()) as name:
        inner, unpacked = disk, False
        if head.startswith(_GZIP) or head[_TAR_AT:] == _TAR:
            inner, unpacked = _unpack(disk, Path(name)), True
        info = qemu_img.info(inner)
        raw, kind, disk_bytes = (
            _plainly_named(inner, Path(name)),
            _NAMES.get(info.format, info.format),
            info.disk_bytes,
        )
        if info.format != "raw":
            raw = Path(name, "disk")
            _convert(disk, inner, info, raw)
        elif (inside := vhd.fixed_disk_bytes(inner)) is not None:
            # The footer behind the disk disturbs no reader.
            kind, disk_bytes = "vhd", inside
        yield OpenedDisk(raw, f"tar of {kind}" if unpacked else kind, disk_bytes, stored)


def _plainly_named(disk: Path, folder: Path) -> Path:
    """The disk, by a name in which the readers find no option ("-x.raw"), and no offset.

    libext2fs takes what follows a "?" for one, mtools what follows "@@".
    """
    path = disk.absolute()
    if "?" not in str(path) and "@@" not in str(path):
        return path
    link = folder / "plain"
    link.symlink_to(path)
    return link


def _convert(disk: Path, inner: Path, info: qemu_img.ImageInfo, raw: Path) -> None:
    free = shutil.disk_usage(raw.parent).free
    try:
        qemu_img.convert_to_raw(inner, info.format, raw)
    except CommandError as error:
        if "No space left" in error.tail:
            raise UserError(
                f"Unpacking '{disk}' takes more than is free in {raw.parent.parent} ({in_words(free)}).",
                "Make room there, or set TMPDIR to another folder.",
            ) from error
        said = (error.tail.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(
            f"'{disk}' is damaged or cut short; qemu-img cannot read it as {info.format}: {said}",
            _COPY_AGAIN,
        ) from error


def _require_disk(disk: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UserError(f"'{disk}' is a folder, not a disk.", "Give the file in it.")
    # To open a pipe would wait for whoever writes to it.
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise UserError(
            f"'{disk}' is neither a file nor a block device.",
            "Give a disk file or a disk's device.",
        )


def _remedy(disk: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"Have its owner let you read it, or run this as root: ls -l {disk}"
    if isinstance(error, FileNotFoundError):
        return "Is the path right? A disk is made by: bootc-build disk IMAGE"
    return "Is the storage that it lies on whole? The kernel's log tells (dmesg)."


def _unpack(archive: Path, folder: Path) -> Path:
    """Take the disk out of an archive (gce's .tar.gz, .ova), with holes where it has zeros."""
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                source = members.extractfile(member) if member.isfile() else None
                if source is None or not member.name.endswith(_DISKS_IN_ARCHIVES):
                    continue
                target = folder / "unpacked"
                with target.open("wb") as file:
                    while chunk := source.read(_CHUNK):
                        if chunk.count(0) == len(chunk):
                            file.seek(len(chunk), 1)
                        else:
                            file.write(chunk)
                    file.truncate()
                return target
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(
                f"Unpacking '{archive}' takes more than is free in {folder.parent}.",
                "Make room there, or set TMPDIR to another folder.",
            ) from error
        raise UserError(
            f"The archive '{archive}' is damaged or cut short: {error}.", _COPY_AGAIN
        ) from error
    raise UserError(
        f"There is no disk in the archive '{archive}'.",
        f"One ends with {', '.join(_DISKS_IN_ARCHIVES)}.",
    )
