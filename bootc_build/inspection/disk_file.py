"""Any disk file as a raw one: as it is, or unpacked to a sparse file for a while."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.tools import qemu_img
from bootc_build.tools.cache import scratch_folder

_GZIP = b"\x1f\x8b"
_TAR_AT, _TAR = 257, b"ustar"
_CHUNK = 1 << 20
_DISKS_IN_ARCHIVES = (".raw", ".vmdk", ".qcow2", ".img")


@dataclass(frozen=True)
class OpenedDisk:
    """A disk that can be read.

    Attributes:
        raw: a raw disk file with its bytes; not to be written to.
        format: of the file that was given: "raw", "qcow2", "vmdk", "vpc", "tar" and so on.
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
        with disk.open("rb") as file:
            head = file.read(_TAR_AT + len(_TAR))
        stored = disk.stat().st_blocks * 512
    except OSError as error:
        raise UserError(f"The disk '{disk}' cannot be read: {error.strerror}.") from error
    with tempfile.TemporaryDirectory(prefix="bootc-build-", dir=scratch_folder()) as name:
        inner = disk
        if head.startswith(_GZIP) or head[_TAR_AT:] == _TAR:
            inner = _unpack(disk, Path(name))
        info = qemu_img.info(inner)
        raw = inner
        if info.format != "raw":
            raw = Path(name, "disk")
            qemu_img.convert_to_raw(inner, info.format, raw)
        shown = info.format if inner is disk else f"tar of {info.format}"
        yield OpenedDisk(raw, shown, info.disk_bytes, stored)


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
        raise UserError(f"The archive '{archive}' cannot be read: {error}.") from error
    raise UserError(
        f"There is no disk in the archive '{archive}'.",
        f"One ends with {', '.join(_DISKS_IN_ARCHIVES)}.",
    )
