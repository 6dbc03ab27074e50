"""What the boot menu counts: GRUB's environment block in ``/boot/bootc.env``.

``bootc_good`` names the deployment whose boot was complete last, ``bootc_counted`` and ``bootc_left`` the one that is
on trial and the tries that it has left. Deployments are named ``CHECKSUM.SERIAL``. What the menu makes of it stands
in ``/usr/libexec/bootc/grub-menu``.

The format is that of ``grub-editenv``: 1024 bytes, a header line, ``name=value`` lines, and ``#`` up to the end. GRUB
writes over the blocks of the file, so it is never replaced, only written over as well. All that is said fits into the
first sector, which a disk writes whole or not at all.
"""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from bootc_build.onhost.errors import UserError

ENVIRONMENT: Final = "/boot/bootc.env"
GOOD: Final = "bootc_good"
COUNTED: Final = "bootc_counted"
LEFT: Final = "bootc_left"
_HEADER: Final = "# GRUB Environment Block\n"
_SIZE: Final = 1024
_REMEDY: Final = "Remove it; the next system that is queued (bootc upgrade, bootc kargs) makes it anew with its menu."


def parse_block(text: str) -> dict[str, str]:
    """The values of an environment block; comments and filling are passed over."""
    lines = (line.partition("=") for line in text.split("\n") if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


def format_block(values: Mapping[str, str]) -> str:
    """An environment block with these values, which have neither line ends nor backslashes.

    Raises:
        ValueError: they do not fit.
    """
    text = _HEADER + "".join(f"{name}={value}\n" for name, value in values.items())
    if len(text) > _SIZE:
        raise ValueError(f"{len(text)} bytes do not fit into an environment block")
    return text.ljust(_SIZE, "#")


def read_counts(path: str = ENVIRONMENT) -> dict[str, str]:
    """The values of the environment block; none where there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return parse_block(file.read(_SIZE))
    except OSError:
        return {}


def note_good(deployment: str, path: str = ENVIRONMENT, *, keep_count: bool = False) -> None:
    """Say that a deployment is good, and end the count.

    Args:
        deployment: its name.
        path: of the environment block, which is made where it is not there.
        keep_count: leave the count of a deployment on trial as it is.

    Raises:
        UserError: it cannot be written.
    """
    values = read_counts(path)
    if not keep_count:
        values.pop(COUNTED, None)
        values.pop(LEFT, None)
    values[GOOD] = deployment
    try:
        _write(path, format_block(values).encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.", _REMEDY) from error


def _write(path: str, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        _make_writable(os.path.dirname(path))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_writable(mount_point: str) -> None:
    """Mount /boot writable, for this process alone."""
    from bootc_build.onhost import process  # noqa: PLC0415 - seldom needed
    from bootc_build.onhost.ostree.mounts import enter_private_mounts  # noqa: PLC0415

    enter_private_mounts()
    with suppress(process.CommandError):
        process.run(["mount", "-o", "remount,rw", mount_point])
