"""What tells others that the system changed: files that they watch, and the journal."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

# Watched by what reboots machines for updates, kured for one.
_REBOOT_REQUIRED: Final = Path("/run/reboot-required")
_SAID: Final = "bootc: Reboot required for image: "
# Its modification time changes with every change of what boots next; a path unit can watch it.
_STATUS_DIRECTORY: Final = "ostree/bootc"
_JOURNAL: Final = "/run/systemd/journal/socket"
ROLLBACK_MESSAGE_ID: Final = "26f3b1eb24464d12aa5e7b544a6b5468"


def reboot_required(digest: str, path: Path = _REBOOT_REQUIRED) -> None:
    """Say that another image becomes active with a reboot."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(f"{_SAID}{digest}")
    new.replace(path)


def no_reboot_required(path: Path = _REBOOT_REQUIRED) -> None:
    """Take that back, unless somebody else said it."""
    with suppress(FileNotFoundError):
        if path.read_text().startswith(_SAID):
            path.unlink()


def status_changed(sysroot: Path) -> None:
    """Say that the status is another now."""
    directory = sysroot / _STATUS_DIRECTORY
    directory.mkdir(exist_ok=True)
    os.utime(directory)


def journal(message: str, fields: Mapping[str, str], socket_path: str = _JOURNAL) -> None:
    """Write a structured message to the journal; without a journal it is lost.

    Args:
        message: one line.
        fields: more fields (upper-case names), each of one line.
        socket_path: where journald listens (its native protocol: ``NAME=value`` lines, a datagram).
    """
    lines = {"MESSAGE": message, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "bootc", **fields}
    datagram = "".join(f"{name}={value}\n" for name, value in lines.items()).encode()
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(datagram, socket_path)
