"""A disk as QEMU's graph of block nodes: the image below, filters between it and the guest; pure.

What a node may say is `BlockdevOptions` in QEMU's `qapi/block-core.json`.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from bootc_build.vm.spec import DiskFormat

Node = dict[str, Any]


class DiskFilter(Protocol):
    """Something between the guest and a disk."""

    def nodes(self, name: str, below: str) -> list[Node]:
        """Its block nodes, each with a `node-name`, lower ones first.

        Args:
            name: of its uppermost node; further nodes begin with it.
            below: the node that it stands on.
        """

    def prepare(self) -> None:
        """Make the files that its nodes need."""


@dataclass(frozen=True)
class WriteLog:
    """Every write, discard and flush of the guest goes into a file as well (QEMU's `blklogwrites`).

    The format is that of the kernel's dm-log-writes (`Documentation/admin-guide/device-mapper/log-writes.rst`).
    Without `append` the log begins anew whenever the machine is turned on; a guest that restarts goes on in it.

    Args:
        path: of the log; it holds all that was written, so give it room.
        append: go on in a log that is there.
        sector_bytes: the unit of the log.
    """

    path: Path
    append: bool = False
    sector_bytes: int = 512

    def nodes(self, name: str, below: str) -> list[Node]:
        """One filter, with the log's file inside."""
        return [
            {
                "node-name": name,
                "driver": "blklogwrites",
                "file": below,
                "log": {"driver": "file", "filename": str(self.path.absolute())},
                "log-append": self.append,
                "log-sector-size": self.sector_bytes,
            }
        ]

    def prepare(self) -> None:
        """QEMU does not make the file."""
        with self.path.open("ab" if self.append else "wb"):
            return


class Operation(StrEnum):
    """What a guest asks of a disk."""

    READ = "read"
    WRITE = "write"
    WRITE_ZEROES = "write-zeroes"
    DISCARD = "discard"
    FLUSH = "flush"


@dataclass(frozen=True)
class IoError:
    """A request of the guest that fails.

    Args:
        operation: which.
        number: the error, such as `errno.ENOSPC`.
        sector: only a request that touches this sector of 512 bytes; None for every one.
        once: only the first one.
    """

    operation: Operation
    number: int = errno.EIO
    sector: int | None = None
    once: bool = False


@dataclass(frozen=True)
class IoErrors:
    """Requests of the guest fail (QEMU's `blkdebug`); what does not is served as ever."""

    errors: tuple[IoError, ...]

    def nodes(self, name: str, below: str) -> list[Node]:
        """One filter with a rule for each error."""
        rules = [
            {
                "event": "none",
                "iotype": str(error.operation),
                "errno": error.number,
                "once": error.once,
                **({} if error.sector is None else {"sector": error.sector}),
            }
            for error in self.errors
        ]
        return [
            {"node-name": name, "driver": "blkdebug", "image": below, "inject-error": rules},
        ]

    def prepare(self) -> None:
        """It has no file."""


@dataclass(frozen=True)
class Attachment:
    """A disk as this run of the machine uses it.

    Args:
        path: the file that the guest writes to: an overlay, or the disk itself.
        format: of that file.
        durable: the guest's flushes reach the host's disk (slower; for disks that are kept).
        filters: what stands between the file and the guest, the lowest first.
        serial: the disk's serial number; in a Linux guest it is `/dev/disk/by-id/virtio-SERIAL`.
    """

    path: Path
    format: DiskFormat
    durable: bool
    filters: Sequence[DiskFilter] = ()
    serial: str | None = None


def block_nodes(name: str, disk: Attachment) -> list[Node]:
    """The nodes of a disk, lower ones first; the last is the one that the guest's device stands on.

    Args:
        name: of the image's node, and the beginning of the filters' names.
        disk: what it consists of.
    """
    nodes = [_image(name, disk)]
    for number, each in enumerate(disk.filters, 1):
        nodes += each.nodes(f"{name}-filter{number}", nodes[-1]["node-name"])
    return nodes


def _image(name: str, disk: Attachment) -> Node:
    # Without flushes a test's guest does not wait for the host's disk.
    common = {"discard": "unmap", "cache": {"direct": False, "no-flush": not disk.durable}}
    file = {"driver": "file", "filename": str(disk.path), **common}
    return {"node-name": name, "driver": str(disk.format), "file": file, **common}
