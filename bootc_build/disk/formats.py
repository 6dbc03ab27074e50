"""Formats that a raw disk is turned into. A file appears under its name when it is whole, by rename."""

import os
from enum import StrEnum
from pathlib import Path

from bootc_build.onhost.progress import Progress
from bootc_build.tools import qemu_img


class DiskType(StrEnum):
    """What ``--type`` may say; the value is also the file's suffix."""

    RAW = "raw"
    QCOW2 = "qcow2"


def write_qcow2(raw: Path, target: Path, progress: Progress) -> None:
    """Write a qcow2, its clusters compressed with zstd.

    Raises:
        MissingProgramError, CommandError.
    """
    stored = raw.stat().st_blocks * 512
    progress.step(f"Converting to {target.name}")
    qemu_img.convert_to_qcow2(
        raw, target, lambda share: progress.bytes_done(int(share * stored), stored)
    )


def publish(finished: Path, target: Path) -> None:
    """Give a finished file its name, replacing what had it; the data is on the disk before the name is.

    Raises:
        OSError.
    """
    _sync(finished)
    finished.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
