"""What an inspection finds. All sizes and offsets are in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileSystem:
    """A file system, or what else fills a partition ("crypto_LUKS", "LVM2_member").

    Attributes:
        kind: "ext4", "vfat", "btrfs", "xfs" and so on.
        uuid: as that kind writes it.
        label: empty where it has none.
        used_bytes: None where that is not told without a mount.
    """

    kind: str
    uuid: str
    label: str
    used_bytes: int | None = None


@dataclass(frozen=True)
class Partition:
    """One partition; ``purpose`` is what its type stands for, or the type itself."""

    number: int
    name: str
    purpose: str
    type_id: str
    guid: str
    start: int
    size: int
    file_system: FileSystem | None

    @property
    def kind(self) -> str:
        """Of its file system; empty where nothing is known in it."""
        return self.file_system.kind if self.file_system else ""


@dataclass(frozen=True)
class LogicalVolume:
    """A logical volume: "GROUP/VOLUME", its size (None where that is not told), and what is in it."""

    path: str
    size: int | None
    file_system: FileSystem | None


@dataclass(frozen=True)
class BootEntry:
    """One entry of the boot menu, by the Boot Loader Specification.

    Attributes:
        file: its name.
        version: entries boot in the order of these, the highest first.
        arguments: the kernel command line, in order.
        deployment: "STATEROOT/COMMIT.SERIAL" of the deployment that it boots, or empty.
    """

    file: str
    title: str
    version: str
    kernel: str
    initrd: str
    arguments: tuple[str, ...]
    deployment: str


@dataclass(frozen=True)
class Contents:
    """What a system's tree says of itself.

    Attributes:
        system: name and version by os-release.
        kernels: versions of the kernels in it.
        packages: name to version; None where there is no package database that is read here.
    """

    system: str = ""
    kernels: tuple[str, ...] = ()
    packages: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Deployment:
    """One deployed system.

    Attributes:
        name: "STATEROOT/COMMIT.SERIAL".
        image: the image that it follows, as the origin file has it.
        digest: of the manifest that it was made from; empty when it was made from no image.
        image_id: of that image, which is the same in every storage and registry; empty like the digest.
        version: as the image's labels give it.
        pinned: never collected.
        contents: of its tree.
    """

    name: str
    image: str
    digest: str
    image_id: str
    version: str
    pinned: bool
    contents: Contents


@dataclass(frozen=True)
class Signature:
    """One signature: whose certificate signed, and who issued that."""

    subject: str
    issuer: str


@dataclass(frozen=True)
class SignedProgram:
    """An EFI program, for Secure Boot.

    Attributes:
        path: where it is; a partition's name before the colon.
        sha256: of the whole file.
        signatures: who signed it; empty when nobody did, or a signature cannot be read.
        intact: whether the program is what was signed; None when it is not signed, False also when a signature
            cannot be read.
        vouched_by: what has the certificate that its signature leads to: "shim", or "firmware"
            when shim knows nothing of it; empty when it is not signed or not intact.
        sbat: component and generation, as revocations count them ("grub.debian" to "5").
    """

    path: str
    sha256: str
    signatures: tuple[Signature, ...]
    intact: bool | None
    vouched_by: str
    sbat: Mapping[str, str]


@dataclass(frozen=True)
class SecureBoot:
    """What is signed by whom.

    Attributes:
        programs: every EFI program and kernel that was found.
        shim_trusts: names of the certificates that shim has built in.
        unchecked: why nothing could be said, or empty.
    """

    programs: tuple[SignedProgram, ...] = ()
    shim_trusts: tuple[str, ...] = ()
    unchecked: str = ""


@dataclass(frozen=True)
class InspectedDisk:
    """A disk file. ``notes`` say what could not be read, and why."""

    file: str
    format: str
    disk_bytes: int
    stored_bytes: int
    table: str
    identifier: str
    partitions: tuple[Partition, ...]
    logical_volumes: tuple[LogicalVolume, ...]
    boot_entries: tuple[BootEntry, ...]
    deployments: tuple[Deployment, ...]
    secure_boot: SecureBoot
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One layer of an image: its diff_id and the step that made it."""

    diff_id: str
    created_by: str


@dataclass(frozen=True)
class InspectedImage:
    """An image in local storage."""

    image: str
    names: tuple[str, ...]
    identifier: str
    digest: str
    architecture: str
    created: str
    size_bytes: int
    bootable: bool
    labels: Mapping[str, str]
    layers: tuple[Layer, ...]
    kernel_arguments: tuple[str, ...]
    contents: Contents
    secure_boot: SecureBoot
    notes: tuple[str, ...] = field(default=())
