"""Formats that a raw disk is turned into. The same disk makes the same bytes in each of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bootc_build.disk import headers, ovf
from bootc_build.disk.identity import Identity
from bootc_build.onhost.progress import Progress
from bootc_build.tools import qemu_img, tar
from bootc_build.tools.sizes import GIB


class DiskType(StrEnum):
    """What ``--type`` may say."""

    RAW = "raw"
    QCOW2 = "qcow2"
    AMI = "ami"
    VMDK = "vmdk"
    VHD = "vhd"
    GCE = "gce"
    OVA = "ova"

    @property
    def suffix(self) -> str:
        """What follows the disk's name and a dot in the file's name."""
        return _SUFFIXES.get(self, self.value)


# Elsewhere the suffix is the type. EC2's disk is a raw one, and programs know those by their suffix.
_SUFFIXES = {DiskType.AMI: "ami.raw", DiskType.GCE: "gce.tar.gz"}
# Clouds whose volumes are whole GiB. A disk that is larger than its volume would lose its end.
_WHOLE_GIB = {DiskType.AMI, DiskType.GCE}


class Compression(StrEnum):
    """What ``--compression`` may say: how clusters of a qcow2 are compressed."""

    ZSTD = "zstd"
    ZLIB = "zlib"
    NONE = "none"


@dataclass(frozen=True)
class FormatOptions:
    """How the files come out.

    Attributes:
        types: which are wanted.
        name: of the disk; files are called NAME.SUFFIX.
        compression: of qcow2.
        identity: where identifiers come from.
        timestamp: seconds since the epoch, for times within the files.
    """

    types: Sequence[DiskType]
    name: str
    compression: Compression
    identity: Identity
    timestamp: int


def size_unit(types: Sequence[DiskType]) -> int:
    """Bytes that a disk's size has to be a multiple of, for all of these types; 1 for any size."""
    return GIB if _WHOLE_GIB.intersection(types) else 1


def write_formats(
    raw: Path, folder: Path, options: FormatOptions, progress: Progress
) -> dict[DiskType, Path]:
    """Write the disk in every format that is wanted, to a folder that is private to this run.

    Args:
        raw: the raw disk; it becomes a file of the result where a type is made of it.
        folder: where the files go, under their final names.
        options: which, and how.
        progress: who listens.

    Returns:
        The files, in the order of the types.

    Raises:
        MissingProgramError, CommandError, UserError, OSError.
    """
    writer = _Writer(raw, folder, options, progress)
    for kind, write in (
        (DiskType.QCOW2, writer.qcow2),
        (DiskType.VMDK, writer.vmdk),
        (DiskType.OVA, writer.ova),
        (DiskType.VHD, writer.vhd),
        (DiskType.GCE, writer.gce),
    ):
        if kind in options.types:
            writer.files[kind] = write()
    # Last, since the raw disk itself takes their names.
    for kind in (DiskType.AMI, DiskType.RAW):
        if kind in options.types:
            writer.files[kind] = writer.raw(kind)
    return {kind: writer.files[kind] for kind in options.types}


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes; a file system that can shares the blocks.

    Raises:
        OSError.
    """
    with source.open("rb") as old, target.open("xb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        for start, end in data_extents(old.fileno(), size):
            at = start
            while at < end:
                at += os.copy_file_range(old.fileno(), new.fileno(), end - at, at, at)


def data_extents(descriptor: int, size: int, begin: int = 0) -> list[tuple[int, int]]:
    """Where a file has data: begin and end of each piece, in bytes; what lies between are holes.

    Args:
        descriptor: of the file.
        size: how far to look; a piece may end behind that.
        begin: where to begin.
    """
    extents = []
    end = begin
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: holes only from here on
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        extents.append((start, end))
    return extents


class _Writer:
    def __init__(self, raw: Path, folder: Path, options: FormatOptions, progress: Progress) -> None:
        self.files: dict[DiskType, Path] = {}
        self._raw = raw
        self._folder = folder
        self._options = options
        self._progress = progress
        self._stored = raw.stat().st_blocks * 512
        self._bytes = raw.stat().st_size

    def qcow2(self) -> Path:
        compression = self._options.compression
        if compression is Compression.NONE:
            return self._convert(DiskType.QCOW2, "qcow2")
        return self._convert(
            DiskType.QCOW2, "qcow2", f"compression_type={compression}", compressed=True
        )

    def vmdk(self) -> Path:
        file = self._convert(
            DiskType.VMDK,
            "vmdk",
            *("subformat=streamOptimized", "adapter_type=lsilogic", "hwversion=14"),
        )
        headers.fix_vmdk(file, self._options.identity.uuid("vmdk"))
        return file

    def ova(self) -> Path:
        vmdk = self.files.get(DiskType.VMDK) or self.vmdk()
        appliance = ovf.Appliance(
            name=self._options.name,
            disk_bytes=self._bytes,
            stored_bytes=vmdk.stat().st_size,
            identity=self._options.identity.uuid("appliance"),
        )
        file = self._new(DiskType.OVA)
        ovf.write_ova(appliance, vmdk, file, self._options.timestamp)
        if DiskType.VMDK not in self.files:
            vmdk.unlink()
        return file

    def vhd(self) -> Path:
        # With its true size and not the one that cylinders, heads and sectors of old could say.
        file = self._convert(DiskType.VHD, "vpc", "subformat=fixed", "force_size=on")
        identity = self._options.identity.uuid("vhd")
        headers.fix_vhd(file, identity, self._options.timestamp)
        return file

    def gce(self) -> Path:
        file = self._new(DiskType.GCE)
        member = self._folder / "gce/disk.raw"  # the name that is asked for
        member.parent.mkdir()
        member.hardlink_to(self._raw)
        tar.write_sparse_archive(member, file, self._options.timestamp)
        member.unlink()
        return file

    def raw(self, kind: DiskType) -> Path:
        file = self._path(kind)
        if kind is DiskType.AMI and DiskType.RAW in self._options.types:
            # Not a second name of the same file: who boots one with --persist would change both.
            self._progress.step(f"Copying to {file.name}")
            copy_sparse(self._raw, file)
        else:
            self._raw.rename(file)
        return file

    def _path(self, kind: DiskType) -> Path:
        return self._folder / f"{self._options.name}.{kind.suffix}"

    def _new(self, kind: DiskType) -> Path:
        file = self._path(kind)
        self._progress.step(f"Writing {file.name}")
        return file

    def _convert(
        self, kind: DiskType, format_: str, *options: str, compressed: bool = False
    ) -> Path:
        file = self._path(kind)
        self._progress.step(f"Converting to {file.name}")
        qemu_img.convert(
            self._raw,
            file,
            format_,
            lambda share: self._progress.bytes_done(int(share * self._stored), self._stored),
            options=options,
            compressed=compressed,
        )
        return file
