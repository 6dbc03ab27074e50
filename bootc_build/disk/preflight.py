"""What can be known to fail before it begins: missing programs, too little space."""

import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootc_build.disk.formats import DiskType
from bootc_build.disk.wanted import BOOT_BYTES
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, MissingProgramError, find_program
from bootc_build.tools.sizes import in_words

# Program -> the Debian package that has it.
_PROGRAMS = {
    "buildah": "buildah",
    "skopeo": "skopeo",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mformat": "mtools",
    "mmd": "mtools",
    "mcopy": "mtools",
}
_QEMU_IMG = {"qemu-img": "qemu-utils"}
_PROGRAMS_BY_TYPE = {
    DiskType.QCOW2: _QEMU_IMG,
    DiskType.VMDK: _QEMU_IMG,
    DiskType.VHD: _QEMU_IMG,
    DiskType.OVA: _QEMU_IMG,
    DiskType.GCE: {"tar": "tar", "pigz": "pigz"},
}
_UNCOMPRESSED = {DiskType.RAW, DiskType.AMI, DiskType.VHD}
_NO_SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_NO_SPACE_WORDS = ("No space left on device", "no space left on device", "Disk quota exceeded")


def check_programs(types: Sequence[DiskType]) -> None:
    """Require every program that these types need.

    Raises:
        UserError: names all that are missing, and their packages.
    """
    needed = dict(_PROGRAMS)
    for kind in types:
        needed |= _PROGRAMS_BY_TYPE.get(kind, {})
    _check(needed)


def programs() -> dict[str, str]:
    """Every program that some type of disk needs, and its Debian package."""
    needed = dict(_PROGRAMS)
    for kind in DiskType:
        needed |= _PROGRAMS_BY_TYPE.get(kind, {})
    return needed


def _check(needed: Mapping[str, str]) -> None:
    missing = [program for program in needed if not _is_there(program)]
    if missing:
        packages = dict.fromkeys(needed[program] for program in missing)
        raise UserError(
            f"Not installed: {', '.join(missing)}.",
            f"Install them with: apt-get install {' '.join(packages)}",
        )


def space_needed(image_bytes: int, types: Sequence[DiskType] = (), *, builds: int = 1) -> int:
    """Bytes that making a disk takes at its highest, an estimate from above.

    Never more than two copies exist together: exported image and installed tree, then tree and disk,
    then disk and what it is converted to. Every type beyond the second adds itself.

    Args:
        image_bytes: size of the image.
        types: which files are written.
        builds: how often; the files of every build but the last stay meanwhile.
    """
    files = sum(2 if kind in _UNCOMPRESSED else 1 for kind in types)
    halves = max(4, (0 if _UNCOMPRESSED.intersection(types) else 2) + files)
    halves += (builds - 1) * files
    return halves * image_bytes // 2 + image_bytes // 4 + BOOT_BYTES // 8


def check_space(
    folder: Path, image_bytes: int, types: Sequence[DiskType] = (), *, builds: int = 1
) -> str:
    """Require free space for the work; a sentence that says how much it will take.

    Raises:
        UserError: says how much is needed and how much there is.
    """
    needed = space_needed(image_bytes, types, builds=builds)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"Making this disk takes about {in_words(needed)} in {folder}, {in_words(free)} are free.",
            "Free some space, or give another folder with --output.",
        )
    return f"It takes up to {in_words(needed)} meanwhile; {in_words(free)} are free"


def check_file_size(folder: Path, size: int) -> None:
    """Require a file system whose files may be so large.

    Raises:
        UserError: they may not.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.truncate(size)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise _too_large(folder, f"a disk of {in_words(size)}") from error


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn the many ways in which programs report a full disk into one error.

    Raises:
        UserError: the disk is full, or its files cannot be so large.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _too_large(folder, "this disk") from error
        if error.errno not in _NO_SPACE_ERRORS:
            raise
        raise _full(folder) from error
    except CommandError as error:
        if not any(words in error.tail for words in _NO_SPACE_WORDS):
            raise
        raise _full(folder) from error


def _full(folder: Path) -> UserError:
    return UserError(
        f"No space is left in {folder}; nothing was written.",
        "Free some space, or give another folder with --output.",
    )


def _too_large(folder: Path, what: str) -> UserError:
    return UserError(
        f"The file system of {folder} has no files so large as {what}; nothing was written.",
        "Give a smaller size, or another folder with --output (ext4 ends at 16 TiB, xfs and btrfs do not).",
    )


def _is_there(program: str) -> bool:
    try:
        find_program(program)
    except MissingProgramError:
        return False
    return True
