"""What the partitions of a disk are for, and every identifier that a disk has. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self
from uuid import UUID, uuid5

_NAMESPACE = UUID("a9d3b0f6-5b7e-4d43-9a3e-5f4f1f0c2d11")


class Role(Enum):
    """What a partition is for; the value is its name in the partition table."""

    BIOS_BOOT = "bios-boot"
    ESP = "esp"
    BOOT = "boot"
    SWAP = "swap"
    EXTRA = "extra"
    ROOT = "root"
    VOLUMES = "lvm"


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

    def file_system(self, role: Role, mountpoint: str = "") -> UUID:
        """UUID of a partition's file system, or of swap."""
        own = {Role.BOOT: self.boot_uuid, Role.ROOT: self.root_uuid}
        return own.get(role) or self.uuid(f"{role.value} file system {mountpoint}".rstrip())

    @property
    def esp_serial(self) -> int:
        """FAT volume serial number, 32 bits."""
        return self.uuid("esp file system").int >> 96
