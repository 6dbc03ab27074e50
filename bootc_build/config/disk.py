"""disk.yaml: how a disk is laid out, and what is set on the machine that boots it."""

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from bootc_build.config.document import read_document
from bootc_build.config.record import Problem, Record, parse_record, raise_problems
from bootc_build.config.sizes import Size

FileSystem = Literal["ext4", "btrfs", "xfs"]
FILE_SYSTEMS: Final[tuple[FileSystem, ...]] = ("ext4", "btrfs", "xfs")
RootLogin = Literal["yes", "no", "prohibit-password", "forced-commands-only"]

# Names that LVM gives to volumes of its own (lvm(8)).
_RESERVED: Final = ("snapshot", "pvmove")
_RESERVED_PARTS: Final = (
    *("_cdata", "_cmeta", "_corig", "_cvol", "_mimage", "_mlog", "_pmspare", "_rimage"),
    *("_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig", "_imeta", "_iorig"),
)

# Where files of a machine may be, as opposed to those of its image.
MACHINE_PLACES: Final = ("/etc", "/var", "/home", "/root", "/srv", "/opt", "/mnt", "/usr/local")


def _plain_path(text: str) -> str:
    if not text.startswith("/") or posixpath.normpath(text) != text or text.startswith("//"):
        raise ValueError("it has to be an absolute path without '.', '..' and a slash at the end")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a path with blanks cannot be told to systemd here")
    return text


def _one_line(text: str) -> str:
    if any(not character.isprintable() for character in text) or ":" in text or '"' in text:
        raise ValueError("it has to be one line without ':' and '\"'")
    return text


def _word(text: str) -> str:
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("it has to be one word")
    return text


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("it has to be a UUID") from None


AbsolutePath = Annotated[str, Field(pattern="^/"), AfterValidator(_plain_path)]
Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
Owner = Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_-]{0,30}|[0-9]{1,5})$")]
Line = Annotated[str, AfterValidator(_one_line)]
Word = Annotated[str, AfterValidator(_word)]
Uuid = Annotated[str, AfterValidator(_uuid)]
Mode = Annotated[str, Field(pattern="^0?[0-7]{3,4}$")]
Identifier = Annotated[int, Field(ge=1, le=65533)]
HostName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*$")
]
TimeZone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z_]+(\.[A-Za-z0-9-]+)?(@[A-Za-z]+)?$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]+$")]


VolumeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,62}$")]


class VolumeGroup(Record):
    """A volume group of LVM, on a partition of its own, with one logical volume for each 'volume' that is said."""

    name: VolumeName
    """Its name."""
    minimum_size: Size | None = None
    """Bytes that its partition has at least; what no volume has stays free."""


class Subvolume(Record):
    """A subvolume of a btrfs root."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9@_][A-Za-z0-9@_.-]{0,254}$")]
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
    """Bytes of its partition, which then stays so; without one it has what is left of the disk, and grows."""
    minimum_size: Size | None = None
    """Bytes that its partition has at least."""
    subvolumes: tuple[Subvolume, ...] = ()
    """Of btrfs; without any, everything is in the file system's top level."""
    volume: VolumeName | None = None
    """Name of the logical volume that it is on; without one it has a partition. A volume does not grow by itself."""


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
    password_hash: Word | None = None
    """As crypt(5) makes it: $6$…, $y$…; without a password there is only the key."""
    password: str | None = None
    """In plain text; it is hashed before it is written."""
    ssh_keys: tuple[Line, ...] = ()
    """Public keys that may log in."""
    groups: tuple[Name, ...] = ()
    """Further groups."""
    uid: Identifier | None = None
    """User id; the first free one from 1000 on without one."""
    gid: Identifier | None = None
    """Group id of the user's own group, or of a group that is there; the user id without one."""
    home: AbsolutePath | None = None
    """Home directory; /var/home/NAME without one."""
    shell: AbsolutePath | None = None
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
    client_alive_interval: Annotated[int, Field(ge=0)] | None = None
    """Seconds after which a silent client is asked for a sign of life; 0 never."""


class DiskConfiguration(Record):
    """What disk.yaml holds."""

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
    kernel_arguments: tuple[Line, ...] = ()
    """Added to the kernel's command line."""
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


def load_disk_configuration(path: Path) -> DiskConfiguration:
    """Read disk.yaml.

    Raises:
        UsageError: it cannot be read, or is wrong; all problems at once.
    """
    return disk_configuration(read_document(path), str(path))


def disk_configuration(document: dict[str, Any], where: str) -> DiskConfiguration:
    """The configuration in a table of disk.yaml's form.

    Args:
        document: the table.
        where: the file, for errors.

    Raises:
        ConfigurationError: it is wrong; all problems at once.
    """
    found = parse_record(DiskConfiguration, document, where)
    raise_problems(where, _contradictions(found))
    return found


def _contradictions(found: DiskConfiguration) -> Iterator[Problem]:
    parts = (("", found), ("root.", found.root), ("boot.", found.boot), ("esp.", found.esp))
    for path, part in parts:
        if part.size is not None and part.minimum_size is not None:
            key = f"{path}minimum-size"
            yield Problem(key, f"is there beside '{path}size'", "Leave one of them out")
    subvolumes = [
        (f"root.subvolumes[{index}].mountpoint", each.mountpoint)
        for index, each in enumerate(found.root.subvolumes)
    ]
    if subvolumes and all(point != "/" for _key, point in subvolumes):
        yield Problem("root.subvolumes", "has none that is mounted at /", "Add one")
    yield from repetitions(
        (f"root.subvolumes[{index}].name", each.name)
        for index, each in enumerate(found.root.subvolumes)
    )
    yield from repetitions(pair for pair in subvolumes if pair[1] == "/")
    extras = [
        (f"filesystems[{index}].mountpoint", each.mountpoint)
        for index, each in enumerate(found.filesystems)
    ]
    yield from mount_point_problems([*(pair for pair in subvolumes if pair[1] != "/"), *extras])
    yield from repetitions(
        (f"users[{index}].name", each.name) for index, each in enumerate(found.users)
    )
    yield from repetitions(
        (f"groups[{index}].name", each.name) for index, each in enumerate(found.groups)
    )
    yield from repetitions(
        (f"users[{index}].uid", each.uid) for index, each in enumerate(found.users)
    )
    yield from _volume_problems(found)
    places: list[File | Directory] = [*found.files, *found.directories]
    keys = [f"files[{n}].path" for n in range(len(found.files))]
    keys += [f"directories[{n}].path" for n in range(len(found.directories))]
    yield from machine_path_problems(zip(keys, (each.path for each in places), strict=True))
    for index, user in enumerate(found.users):
        if user.password is not None and user.password_hash is not None:
            yield Problem(f"users[{index}].password", "is there beside 'password-hash'")


def _volume_problems(found: DiskConfiguration) -> Iterator[Problem]:
    swap = found.swap.volume if found.swap else None
    named = [("root.volume", found.root.volume), ("swap.volume", swap)]
    for index, each in enumerate(found.filesystems):
        named.append((f"filesystems[{index}].volume", each.volume))
        for key in ("partition_label", "partition_type", "partition_uuid"):
            if each.volume and getattr(each, key):
                path = f"filesystems[{index}].{key.replace('_', '-')}"
                yield Problem(path, "is there beside 'volume'", "A volume is in no partition table")
    said = [(path, name) for path, name in named if name is not None]
    if said and found.volume_group is None:
        yield Problem(said[0][0], "is there without 'volume-group'", "Say its name")
    if found.volume_group is not None and not said:
        yield Problem("volume-group", "has no volume", "Say 'volume' of the root or another")
    yield from repetitions(said)
    for path, name in said:
        if name.startswith(_RESERVED) or any(part in name for part in _RESERVED_PARTS):
            yield Problem(path, f"is {name}, which LVM keeps for itself", "Choose another name")


def repetitions(values: Iterable[tuple[str, object]]) -> Iterator[Problem]:
    """A problem for each value (None apart) that an earlier key has already; pairs of key path and value."""
    seen: dict[object, str] = {}
    for path, value in values:
        if value in seen:
            yield Problem(path, f"is {value}, as '{seen[value]}' is", "Leave one of them out")
        elif value is not None:
            seen[value] = path


def mount_point_problems(points: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """What is wrong with the mount points of extra file systems; pairs of key path and mount point."""
    pairs = list(points)
    own = {
        "/": "Say it below 'root'",
        "/boot": "Say it below 'boot'",
        "/boot/efi": "Say it below 'esp'",
    }
    image = ("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/ostree", "/sysroot")
    kernel = ("/dev", "/proc", "/sys", "/run", "/tmp")  # noqa: S108 - a name, nothing is made there
    for path, point in pairs:
        top = "/" + point.split("/")[1]
        if point in own:
            yield Problem(path, f"is {point}, which every disk has", own[point])
        elif top in image and not point.startswith("/usr/local/"):
            yield Problem(path, f"is {point}, which is the image's", "Allowed: /var and below")
        elif top in (*kernel, "/boot"):
            yield Problem(path, f"is {point}, where nothing of a disk can be mounted", "Use /var")
    yield from repetitions(pairs)


def machine_path_problems(paths: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """What is wrong with places of files and directories; pairs of key path and path."""
    pairs = list(paths)
    for key, path in pairs:
        if not any(path.startswith(f"{place}/") for place in MACHINE_PLACES):
            places = ", ".join(MACHINE_PLACES)
            yield Problem(key, f"is {path}, which is the image's", f"Allowed: below {places}")
    yield from repetitions(pairs)
