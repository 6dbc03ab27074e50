"""The keys of a blueprint, as osbuild's blueprint format has them.

What is declared as `Unsupported` is a known key whose every value but an empty one is refused, with a reason.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bootc_build.config.record import PlainRecord
from bootc_build.config.sizes import BlueprintSize

Unsupported = Any


def _owner(value: object) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError("a name or a number is allowed")


Owner = Annotated[str, BeforeValidator(_owner)]


class BlueprintUser(PlainRecord):
    """[[customizations.user]]."""

    name: str
    description: str | None = None
    password: str | None = None
    key: str | None = None
    home: str | None = None
    shell: str | None = None
    groups: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    expiredate: Unsupported = None
    force_password_reset: Unsupported = None


class BlueprintGroup(PlainRecord):
    """[[customizations.group]]."""

    name: str
    gid: int | None = None


class SshKey(PlainRecord):
    """[[customizations.sshkey]]."""

    user: str
    key: str


class Kernel(PlainRecord):
    """[customizations.kernel]."""

    name: Unsupported = None
    append: str | None = None


class TimeZone(PlainRecord):
    """[customizations.timezone]."""

    timezone: str | None = None
    ntpservers: tuple[str, ...] = ()


class Locale(PlainRecord):
    """[customizations.locale]."""

    languages: tuple[str, ...] = ()
    keyboard: str | None = None


class BlueprintServices(PlainRecord):
    """[customizations.services]."""

    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


class FilesystemCustomization(PlainRecord):
    """[[customizations.filesystem]]; `size` is an older name of `minsize`."""

    mountpoint: str
    minsize: BlueprintSize | None = None
    size: BlueprintSize | None = None


class LogicalVolume(PlainRecord):
    """A logical volume of an lvm partition."""

    name: str | None = None
    minsize: BlueprintSize | None = None
    mountpoint: str | None = None
    label: str | None = None
    fs_type: str | None = None


class Subvolume(PlainRecord):
    """A subvolume of a btrfs partition."""

    name: str
    mountpoint: str


class PartitionCustomization(PlainRecord):
    """[[customizations.disk.partitions]]."""

    type: str = "plain"
    minsize: BlueprintSize | None = None
    part_type: str | None = None
    part_label: str | None = None
    part_uuid: str | None = None
    mountpoint: str | None = None
    label: str | None = None
    fs_type: str | None = None
    name: str | None = None
    logical_volumes: tuple[LogicalVolume, ...] = ()
    subvolumes: tuple[Subvolume, ...] = ()


class DiskCustomization(PlainRecord):
    """[customizations.disk]."""

    type: str = "gpt"
    minsize: BlueprintSize | None = None
    partitions: tuple[PartitionCustomization, ...] = ()
    start_offset: Unsupported = None
    sector_size: int = 512


class NodeCustomization(PlainRecord):
    """What files and directories share."""

    path: str
    user: Owner = "root"
    group: Owner = "root"
    mode: str | None = None


class FileCustomization(NodeCustomization):
    """[[customizations.files]]."""

    data: str = ""
    uri: Unsupported = None


class DirectoryCustomization(NodeCustomization):
    """[[customizations.directories]]."""

    ensure_parents: bool = False


class SshdCustomization(PlainRecord):
    """[customizations.sshd]."""

    password_authentication: bool | None = None
    client_alive_interval: int | None = None
    permit_root_login: str | None = None
    kbd_interactive_authentication: bool | None = None


class Customizations(PlainRecord):
    """[customizations]."""

    hostname: str | None = None
    kernel: Kernel = Kernel()
    sshkey: tuple[SshKey, ...] = ()
    user: tuple[BlueprintUser, ...] = ()
    group: tuple[BlueprintGroup, ...] = ()
    timezone: TimeZone = TimeZone()
    locale: Locale = Locale()
    services: BlueprintServices = BlueprintServices()
    filesystem: tuple[FilesystemCustomization, ...] = ()
    disk: DiskCustomization | None = None
    directories: tuple[DirectoryCustomization, ...] = ()
    files: tuple[FileCustomization, ...] = ()
    sshd: SshdCustomization = SshdCustomization()
    partitioning_mode: str = ""
    firewall: Unsupported = None
    installation_device: Unsupported = None
    fdo: Unsupported = None
    openscap: Unsupported = None
    ignition: Unsupported = None
    repositories: Unsupported = None
    fips: Unsupported = None
    installer: Unsupported = None
    rpm: Unsupported = None
    rhsm: Unsupported = None
    cacerts: Unsupported = None
    containers_storage: Annotated[Unsupported, Field(alias="containers-storage")] = None
    firstboot: Unsupported = None
    dnf: Unsupported = None
    iso: Unsupported = None


class Blueprint(PlainRecord):
    """A whole blueprint. Name, description and version say something about the blueprint, not the disk."""

    name: str = ""
    description: str = ""
    version: str = ""
    customizations: Customizations = Customizations()
    packages: Unsupported = None
    modules: Unsupported = None
    groups: Unsupported = None
    enabled_modules: Unsupported = None
    containers: Unsupported = None
    distro: Unsupported = None
    architecture: str = ""
    minimal: Unsupported = None
    ostree: Unsupported = None
