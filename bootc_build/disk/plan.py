"""The shape of a disk, decided before anything is written: partitions, identifiers, times. Pure.

Everything that could differ between two builds of the same input (UUIDs, serial numbers, hash seeds,
times) is derived here from the image's digest and the configuration.

Sizes and offsets are in bytes; a sector is 512 bytes; every partition begins and ends on a whole MiB.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self
from uuid import UUID, uuid5

from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, in_words

SECTOR = 512
DEFAULT_DISK_BYTES = 10 * GIB
BIOS_BOOT_BYTES = MIB
# Room for shim, GRUB and firmware updates; 2 sectors a cluster make it FAT32 by the cluster count.
ESP_BYTES = 128 * MIB
# Three kernels with large initramfs files: the booted one, the one before, the one being staged.
BOOT_BYTES = 1024 * MIB

# A GPT needs 34 sectors at the front and 33 at the end; whole MiB keep everything aligned.
_TABLE_BYTES = MIB

_NAMESPACE = UUID("a9d3b0f6-5b7e-4d43-9a3e-5f4f1f0c2d11")
# What ext4 itself takes: journal, inode tables (1/64), group descriptors, partly filled blocks.
_EXT4_FIXED_BYTES = 96 * MIB
_EXT4_SHARE = 0.06


class Role(Enum):
    """What a partition is for; the value is its name in the partition table."""

    BIOS_BOOT = "bios-boot"
    ESP = "esp"
    BOOT = "boot"
    ROOT = "root"


# The Discoverable Partitions Specification and the GPT registry of types. /boot is plain Linux data and
# not XBOOTLDR: systemd-gpt-auto-generator mounts that type with nosymfollow, and /boot/loader is a link.
_TYPES = {
    Role.BIOS_BOOT: UUID("21686148-6449-6e6f-744e-656564454649"),
    Role.ESP: UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    Role.BOOT: UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"),
    Role.ROOT: UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
}


@dataclass(frozen=True)
class Partition:
    """One partition.

    Attributes:
        role: what it is for.
        number: its place in the table, from 1.
        start: first byte on the disk.
        size: length in bytes.
        type_guid: GPT type.
        guid: GPT unique id.
    """

    role: Role
    number: int
    start: int
    size: int
    type_guid: UUID
    guid: UUID

    @property
    def start_sector(self) -> int:
        """First sector."""
        return self.start // SECTOR

    @property
    def sectors(self) -> int:
        """Length in sectors."""
        return self.size // SECTOR


@dataclass(frozen=True)
class Identity:
    """Every identifier on the disk, each a function of image digest and configuration.

    Args:
        seed: digest and configuration in one canonical text.
    """

    seed: str

    @classmethod
    def derive(cls, image_digest: str, configuration: Mapping[str, Any]) -> Self:
        """The identity of the disk that this image and this configuration make."""
        return cls(json.dumps([image_digest, configuration], sort_keys=True))

    def uuid(self, purpose: str) -> UUID:
        """The identifier for one purpose ("root file system")."""
        return uuid5(_NAMESPACE, f"{purpose}\n{self.seed}")

    @property
    def boot_uuid(self) -> UUID:
        """UUID of the /boot file system."""
        return self.uuid("boot file system")

    @property
    def root_uuid(self) -> UUID:
        """UUID of the root file system."""
        return self.uuid("root file system")

    @property
    def esp_serial(self) -> int:
        """FAT volume serial number, 32 bits."""
        return self.uuid("esp file system").int >> 96


@dataclass(frozen=True)
class Contents:
    """How much there is to store, in bytes as the file system will allocate them."""

    root: int
    boot: int = 0
    esp: int = 0


@dataclass(frozen=True)
class DiskPlan:
    """A whole disk.

    Attributes:
        size: bytes of the whole disk.
        identity: its identifiers.
        timestamp: seconds since the epoch, for every time that would otherwise be "now".
        partitions: in the order of the disk.
    """

    size: int
    identity: Identity
    timestamp: int
    partitions: tuple[Partition, ...]

    def partition(self, role: Role) -> Partition:
        """The partition with this role."""
        return next(part for part in self.partitions if part.role is role)


def plan_disk(
    identity: Identity,
    contents: Contents,
    *,
    timestamp: int,
    size: int | None = None,
    unit: int = MIB,
) -> DiskPlan:
    """Lay out a disk.

    Args:
        identity: where the identifiers come from.
        contents: what has to fit, measured or estimated.
        timestamp: seconds since the epoch.
        size: bytes of the whole disk; None for 10 GiB, or more where the contents want it.
        unit: what the size must be a multiple of, for the sake of where the disk goes.

    Raises:
        UsageError: the contents do not fit, or the size is no multiple.
    """
    if size is not None and unit > MIB and size % unit:
        raise UsageError(
            f"A disk of {in_words(size)} cannot be a volume of the clouds that are asked for.",
            f"Give --size in whole {in_words(unit).removeprefix('1 ')}, like {-(-size // GIB)}G.",
        )
    _check_fits("/boot", contents.boot, BOOT_BYTES)
    if contents.esp > ESP_BYTES * 9 // 10:
        raise UsageError(
            f"The boot loader's files need {contents.esp} bytes, the EFI system partition has {ESP_BYTES}."
        )
    needed = smallest_disk(contents)
    if size is None:
        # The next version is stored beside this one before this one goes.
        size = max(DEFAULT_DISK_BYTES, _round_up(needed + ext4_bytes(contents.root), GIB))
        size = _round_up(size, unit)
    if size < needed:
        raise UsageError(
            f"A disk of {in_words(size)} is too small for this image.",
            f"It needs {in_words(needed)} at least, and room for updates: --size "
            f"{_round_up(needed + contents.root, GIB) // GIB}G or more.",
        )
    size = size // MIB * MIB
    sizes = {Role.BIOS_BOOT: BIOS_BOOT_BYTES, Role.ESP: ESP_BYTES, Role.BOOT: BOOT_BYTES}
    partitions = []
    start = _TABLE_BYTES
    for number, role in enumerate(Role, 1):
        length = sizes.get(role, size - _TABLE_BYTES - start)
        guid = identity.uuid(f"{role.value} partition")
        partitions.append(Partition(role, number, start, length, _TYPES[role], guid))
        start += length
    return DiskPlan(size, identity, timestamp, tuple(partitions))


def smallest_disk(contents: Contents) -> int:
    """Bytes of the smallest disk that holds these contents, without room for an update."""
    fixed = 2 * _TABLE_BYTES + BIOS_BOOT_BYTES + ESP_BYTES + BOOT_BYTES
    return _round_up(fixed + ext4_bytes(contents.root), MIB)


def ext4_bytes(contents: int) -> int:
    """Bytes of an ext4 file system that holds ``contents`` bytes of files."""
    return contents + int(contents * _EXT4_SHARE) + _EXT4_FIXED_BYTES


def _check_fits(where: str, contents: int, size: int) -> None:
    if ext4_bytes(contents) > size:
        raise UsageError(
            f"The files for {where} need {in_words(ext4_bytes(contents))}, its partition has {in_words(size)}.",
            "Make the kernel's initramfs smaller.",
        )


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
