"""What is wanted of a disk's partitions, before it is known how large they become. Pure; sizes in bytes."""

from dataclasses import dataclass
from uuid import UUID

from bootc_build.tools.sizes import GIB, MIB

BIOS_BOOT_BYTES = MIB
# Room for shim, GRUB and firmware updates.
ESP_BYTES = 128 * MIB
# Three kernels with large initramfs files: the booted one, the one before, the one being staged.
BOOT_BYTES = 1024 * MIB
# What the largest volumes of clouds have, and more than most file systems let one file have.
LARGEST_DISK_BYTES = 64 * 1024 * GIB
LARGEST_DISK = "64 TiB"
MOST_UPDATES = 100
LINUX_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_WITH_BIOS = ("amd64",)


@dataclass(frozen=True)
class Extra:
    """A further file system.

    Attributes:
        mountpoint: absolute, without links on the way.
        size: bytes of its partition.
        filesystem: ext4, btrfs or xfs.
        label: of the file system.
        options: of the mount.
        name: in the partition table.
        type_guid: GPT type.
        guid: GPT unique id, or None for a derived one.
        volume: name of the logical volume that it is on instead of a partition; empty for none.
    """

    mountpoint: str
    size: int
    filesystem: str = "ext4"
    label: str = ""
    options: tuple[str, ...] = ()
    name: str = ""
    type_guid: UUID = LINUX_DATA
    guid: UUID | None = None
    volume: str = ""


@dataclass(frozen=True)
class Group:
    """The volume group of a disk.

    Attributes:
        name: its name.
        minimum: bytes that its partition has at least.
        root: name of the logical volume of the root; empty where that has a partition.
        swap: the same of swap.
    """

    name: str
    minimum: int = 0
    root: str = ""
    swap: str = ""


@dataclass(frozen=True)
class Subvolume:
    """A subvolume of a btrfs root: its name in the file system, and where it is mounted."""

    name: str
    mountpoint: str


@dataclass(frozen=True)
class Layout:
    """What is wanted of a disk's partitions; sizes in bytes.

    Attributes:
        filesystem: of the root.
        root_label: of the root file system.
        root_size: of the root's partition exactly, or None for what is left; then it grows with the disk.
        root_minimum: of the root's partition at least.
        boot_size: of the partition of /boot.
        esp_size: of the EFI system partition.
        swap_size: of the swap partition; 0 for none.
        swap_label: its label.
        extras: further file systems.
        subvolumes: of a btrfs root; the one that is mounted at / among them, if there are any.
        updates: how many further versions of the system fit beside the first.
        minimum: of the whole disk at least.
        architecture: of the system, in the OCI's words.
        group: the volume group, if there is one.
    """

    filesystem: str = "ext4"
    root_label: str = "root"
    root_size: int | None = None
    root_minimum: int = 0
    boot_size: int = BOOT_BYTES
    esp_size: int = ESP_BYTES
    swap_size: int = 0
    swap_label: str = "swap"
    extras: tuple[Extra, ...] = ()
    subvolumes: tuple[Subvolume, ...] = ()
    updates: int = 1
    minimum: int = 0
    architecture: str = "amd64"
    group: Group | None = None

    @property
    def root_volume(self) -> str:
        """The logical volume of the root; empty where it has a partition."""
        return self.group.root if self.group else ""

    @property
    def swap_volume(self) -> str:
        """The logical volume of swap; empty where it has a partition."""
        return self.group.swap if self.group else ""

    @property
    def bios_boot_size(self) -> int:
        """Of the BIOS boot partition; 0 where there is no BIOS."""
        return BIOS_BOOT_BYTES if self.architecture in _WITH_BIOS else 0

    @property
    def kinds(self) -> frozenset[str]:
        """The types of file systems, /boot apart."""
        return frozenset({self.filesystem, *(extra.filesystem for extra in self.extras)})

    @property
    def mountpoints(self) -> list[str]:
        """Where something is mounted besides /, /boot and /boot/efi."""
        points = [each.mountpoint for each in self.extras]
        points += [each.mountpoint for each in self.subvolumes]
        return [point for point in points if point != "/"]

    @property
    def root_subvolume(self) -> str | None:
        """The subvolume that is mounted at /."""
        return next((each.name for each in self.subvolumes if each.mountpoint == "/"), None)
