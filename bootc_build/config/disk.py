"""disk.yaml: how a disk is laid out, and what is set on the machine that boots it."""

from typing import Annotated, Final, Literal

from pydantic import Field

from bootc_build.config.credentials import AuthorizedKey, Password, PasswordHash
from bootc_build.config.record import Record
from bootc_build.config.sizes import Size
from bootc_build.config.values import (
    AbsolutePath,
    AccountPath,
    Home,
    HostName,
    Identifier,
    KernelArgument,
    Line,
    Locale,
    Mode,
    Name,
    Owner,
    SubvolumeName,
    TimeZone,
    Unit,
    Uuid,
    VolumeName,
    Word,
)

FileSystem = Literal["ext4", "btrfs", "xfs"]
FILE_SYSTEMS: Final[tuple[FileSystem, ...]] = ("ext4", "btrfs", "xfs")
RootLogin = Literal["yes", "no", "prohibit-password", "forced-commands-only"]
# As the OCI names them.
Architecture = Literal["amd64", "arm64"]


class VolumeGroup(Record):
    """A volume group of LVM, on a partition of its own, with one logical volume for each 'volume' that is said."""

    name: VolumeName
    """Its name."""
    minimum_size: Size | None = None
    """Bytes that its partition has at least; what no volume has stays free."""


class Subvolume(Record):
    """A subvolume of a btrfs root."""

    name: SubvolumeName
    """Its name in the file system."""
    mountpoint: AbsolutePath
    """Where it is mounted: / for one of them."""


class Root(Record):
    """The root file system."""

    filesystem: FileSystem | None = None
    """Its type; without one what the image asks for, or ext4."""
    label: Word | None = None
    """Label of the file system; "root" without one."""
    size: Size | None = None
    """Bytes of its partition or volume, which then stays so; without one it has what is left of the disk, and grows."""
    minimum_size: Size | None = None
    """Bytes that its partition has at least."""
    subvolumes: tuple[Subvolume, ...] = ()
    """Of btrfs; without any, everything is in the file system's top level."""
    volume: VolumeName | None = None
    """Name of the logical volume that it is on; without one it has a partition."""


class Boot(Record):
    """The file system of /boot, always ext4."""

    size: Size | None = None
    """Bytes of its partition; 1 GiB without one."""
    minimum_size: Size | None = None
    """Bytes that its partition has at least."""


class Esp(Record):
    """The EFI system partition."""

    size: Size | None = None
    """Bytes; 128 MiB without one."""
    minimum_size: Size | None = None
    """Bytes that it has at least."""


class Swap(Record):
    """A swap partition."""

    size: Size
    """Bytes."""
    label: Word | None = None
    """Its label; "swap" without one."""
    volume: VolumeName | None = None
    """Name of the logical volume that it is on; without one it has a partition."""


class ExtraFileSystem(Record):
    """A further file system on a partition of its own."""

    mountpoint: AbsolutePath
    """Where it is mounted: /var, something below it, or a directory that the image has."""
    size: Size
    """Bytes of its partition."""
    filesystem: FileSystem | None = None
    """Its type; that of the root without one."""
    label: Word | None = None
    """Label of the file system; made of the mount point without one."""
    options: tuple[Word, ...] = ()
    """Options it is mounted with, as fstab(5) has them."""
    partition_label: Word | None = None
    """Name in the partition table; the label without one."""
    partition_type: Uuid | None = None
    """GPT type; Linux data without one."""
    partition_uuid: Uuid | None = None
    """GPT unique id; derived from image and configuration without one."""
    volume: VolumeName | None = None
    """Name of the logical volume that it is on; without one it has a partition."""


class User(Record):
    """An account; one that the image has already may only get a password, keys and groups."""

    name: Name
    """Login name."""
    description: Line | None = None
    """Who it is."""
    password_hash: PasswordHash | None = None
    """As crypt(5) makes it: $6$…, $y$…, or ! for none; without a password there is only the key."""
    password: Password | None = None
    """In plain text; it is hashed before it is written."""
    ssh_keys: tuple[AuthorizedKey, ...] = ()
    """Public keys that may log in, as lines of authorized_keys; options may come before the key."""
    groups: tuple[Name, ...] = ()
    """Further groups."""
    uid: Identifier | None = None
    """User id; the first free one from 1000 on without one."""
    gid: Identifier | None = None
    """Group id of the user's own group, or of a group that is there; the user id without one."""
    home: Home | None = None
    """Home directory, below /var, /home, /root, /srv, /opt, /mnt or /usr/local; /var/home/NAME without one."""
    shell: AccountPath | None = None
    """Login shell; /bin/bash without one."""


class Group(Record):
    """A group."""

    name: Name
    """Its name."""
    gid: Identifier | None = None
    """Group id; the first free one from 1000 on without one."""


class File(Record):
    """A file of the machine, not of the image."""

    path: AbsolutePath
    """Below /etc or /var (or /home, /root, /srv, … that lead there)."""
    content: str = ""
    """Its text."""
    mode: Mode = "0644"
    """Permissions, octal, in quotes."""
    owner: Owner = "root"
    """User, by name or number."""
    group: Owner = "root"
    """Group, by name or number."""


class Directory(Record):
    """A directory of the machine, not of the image."""

    path: AbsolutePath
    """As a file's."""
    mode: Mode = "0755"
    """Permissions, octal, in quotes."""
    owner: Owner = "root"
    """User, by name or number."""
    group: Owner = "root"
    """Group, by name or number."""
    parents: bool = False
    """Make the directories above it too."""


class Services(Record):
    """systemd units, by full name or that of a service."""

    enabled: tuple[Unit, ...] = ()
    """Started at boot."""
    disabled: tuple[Unit, ...] = ()
    """Not started at boot."""
    masked: tuple[Unit, ...] = ()
    """Never started."""


class Sshd(Record):
    """The SSH server."""

    password_authentication: bool | None = None
    """Whether a password may log in."""
    keyboard_interactive: bool | None = None
    """Whether PAM may ask for one."""
    root_login: RootLogin | None = None
    """Whether and how root may log in."""
    client_alive_interval: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    """Seconds after which a silent client is asked for a sign of life; 0 never."""


class DiskConfiguration(Record):
    """What disk.yaml holds."""

    architecture: Architecture | None = None
    """Of the images that this is for; with one of another it is refused. Any without one."""
    size: Size | None = None
    """Bytes of the whole disk; without one it is as small as its contents and the updates allow."""
    minimum_size: Size | None = None
    """Bytes that the disk has at least."""
    updates: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many further versions fit beside the first; 1 without one."""
    root: Root = Root()
    """The root file system."""
    boot: Boot = Boot()
    """The file system of /boot."""
    esp: Esp = Esp()
    """The EFI system partition."""
    swap: Swap | None = None
    """A swap partition."""
    filesystems: tuple[ExtraFileSystem, ...] = ()
    """Further file systems."""
    volume_group: VolumeGroup | None = None
    """For the root, swap and file systems that say a volume."""
    kernel_arguments: tuple[KernelArgument, ...] = ()
    """Added to the kernel's command line; a value with blanks in double quotes."""
    hostname: HostName | None = None
    """The machine's name."""
    locale: Locale | None = None
    """LANG of the system; the image must have it."""
    keyboard: Word | None = None
    """Keymap of the consoles; the image must have it."""
    timezone: TimeZone | None = None
    """Like Europe/Berlin."""
    ntp_servers: tuple[Word, ...] = ()
    """Time servers, for systemd-timesyncd."""
    users: tuple[User, ...] = ()
    """Accounts."""
    groups: tuple[Group, ...] = ()
    """Groups."""
    files: tuple[File, ...] = ()
    """Files."""
    directories: tuple[Directory, ...] = ()
    """Directories."""
    services: Services = Services()
    """Units that start at boot, and units that do not."""
    sshd: Sshd = Sshd()
    """The SSH server."""
