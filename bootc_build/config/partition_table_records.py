"""The keys of osbuild's disk.yaml: a partition table, and what is on its partitions.

What is declared as `Unsupported` is a known key whose every value is refused.
"""

from typing import Any, Final

from bootc_build.config.record import PlainRecord
from bootc_build.config.sizes import BlueprintSize

Unsupported = Any

TOP: Final = "partition_table.partitions"
# What every disk has, and where disk.yaml of ours says it.
KEYS: Final = {"/": "root", "/boot": "boot", "/boot/efi": "esp"}
LINUX: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
BIOS_BOOT: Final = "21686148-6449-6e6f-744e-656564454649"
SECTOR: Final = 512


class Payload(PlainRecord):
    """What is on a partition."""

    type: str | None = None
    mountpoint: str | None = None
    label: str | None = None
    uuid: str | None = None
    fstab_options: str = ""
    fstab_freq: int = 0
    fstab_passno: int = 0
    mkfs_options: Unsupported = None


class Partition(PlainRecord):
    """A partition."""

    start: Unsupported = None
    attrs: Unsupported = None
    size: BlueprintSize
    type: str = LINUX
    bootable: bool = False
    label: str | None = None
    uuid: str | None = None
    payload_type: str = ""
    payload: dict[str, Any] | None = None

    @property
    def is_bios_boot(self) -> bool:
        """Whether it is for GRUB's second stage on BIOS."""
        return self.type.lower() == BIOS_BOOT and not self.payload_type


class Table(PlainRecord):
    """A partition table."""

    type: str = "gpt"
    uuid: str | None = None
    start_offset: BlueprintSize | None = None
    size: BlueprintSize | None = None
    sector_size: int = SECTOR
    extra_padding: Unsupported = None
    policy: Unsupported = None
    partitions: tuple[Partition, ...] = ()


class Document(PlainRecord):
    """The whole file."""

    mount_configuration: str = "fstab"
    partition_table: Table
