"""qemu-img: disk formats."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import CommandError, run, running

_PERCENT = re.compile(rb"\(([0-9.]+)/100%\)")


def convert(
    raw: Path,
    target: Path,
    kind: str,
    on_share: Callable[[float], None],
    *,
    options: Sequence[str] = (),
    compressed: bool = False,
) -> None:
    """Write a raw disk in another format; the same disk makes the same clusters in the same order.

    Args:
        raw: a raw disk.
        target: the new file.
        kind: QEMU's name of the format.
        on_share: is told the share that is done, 0 to 1.
        options: of the format, each like "subformat=fixed".
        compressed: compress every cluster.

    Raises:
        MissingProgramError, CommandError.
    """
    # Without -W, so that clusters stay in order.
    argv = ["qemu-img", "convert", "-p", "-f", "raw", "-O", kind]
    if compressed:
        argv.append("-c")
    if options:
        argv += ["-o", ",".join(options)]
    argv += [_name(raw), _name(target)]
    with running(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        assert process.stderr is not None  # noqa: S101 - asked for above
        while said := os.read(process.stdout.fileno(), 4096):
            if found := _PERCENT.findall(said):
                on_share(float(found[-1]) / 100)
        tail = process.stderr.read().decode(errors="backslashreplace")
        status = process.wait()
    if status != 0:
        raise CommandError(argv, status, tail)


@dataclass(frozen=True)
class ImageInfo:
    """What qemu-img says of a disk file.

    Attributes:
        format: "raw", "qcow2", "vmdk", "vpc" and so on.
        disk_bytes: size of the disk that a machine sees.
        stored_bytes: what the file takes in storage.
    """

    format: str
    disk_bytes: int
    stored_bytes: int


def info(disk: Path) -> ImageInfo:
    """Format and sizes of a disk file, also while a machine uses it.

    Raises:
        MissingProgramError, CommandError.
    """
    found = json.loads(run(["qemu-img", "info", "-U", "--output=json", _name(disk)]).stdout)
    return ImageInfo(found["format"], int(found["virtual-size"]), int(found["actual-size"]))


def convert_to_raw(disk: Path, kind: str, target: Path) -> None:
    """Write a disk of any format as a raw one, sparse; also while a machine uses it.

    Args:
        disk: the disk file.
        kind: its format, as `info` says it.
        target: the new file.

    Raises:
        MissingProgramError, CommandError.
    """
    run(["qemu-img", "convert", "-U", "-f", kind, "-O", "raw", _name(disk), _name(target)])


def _name(path: Path) -> str:
    """A path as qemu-img takes it: "os:v1.raw" would be a disk by the protocol "os", and "-x.raw" an option."""
    return str(path.absolute())
