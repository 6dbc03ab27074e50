"""What is wanted of a disk's partitions: the user's configuration, completed by what the image says.

Nothing is written here; the image is looked into.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from bootc_build.config.disk import DiskConfiguration, ExtraFileSystem, FileSystem
from bootc_build.config.disk import Subvolume as ConfiguredSubvolume
from bootc_build.disk.settings.deployment import Deployment
from bootc_build.disk.wanted import (
    BOOT_BYTES,
    ESP_BYTES,
    LINUX_DATA,
    Extra,
    Group,
    Layout,
    Subvolume,
)
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.install.configuration import InstallConfiguration

_DEFAULT_FILESYSTEM = "ext4"
# What a file system's label may have, in bytes.
_LABEL_BYTES = {"ext4": 16, "btrfs": 255, "xfs": 12}


@dataclass(frozen=True)
class Overrides:
    """What comes before a configuration, wherever that is from; None where it says nothing.

    Attributes:
        filesystem: of the root.
        root_size: bytes of its partition.
        updates: how many further versions fit.
    """

    filesystem: FileSystem | None = None
    root_size: int | None = None
    updates: int | None = None

    def over(self, configuration: DiskConfiguration) -> DiskConfiguration:
        """The configuration with this in its place."""
        root: dict[str, object] = {}
        if self.filesystem is not None:
            root["filesystem"] = self.filesystem
        if self.root_size is not None:
            root |= {"size": self.root_size, "minimum_size": None}
        found = configuration.model_copy(
            update={"root": configuration.root.model_copy(update=root)}
        )
        return found if self.updates is None else found.model_copy(update={"updates": self.updates})


def image_layout(
    wanted: DiskConfiguration, image_root: Path, install: InstallConfiguration
) -> Layout:
    """The layout for one image.

    Args:
        wanted: what the user says.
        image_root: the image's file system.
        install: what the image says about its own installation; what the user says comes first.

    Raises:
        UserError: a mount point that cannot be, a label that is too long, a file system that the image's
            kernel lacks.
    """
    image = Deployment(image_root, image_root / "var")
    root = wanted.root.filesystem or install.root_fs_type or _DEFAULT_FILESYSTEM
    extras = tuple(_extra(each, image, root) for each in wanted.filesystems)
    subvolumes = tuple(_subvolume(each, image) for each in wanted.root.subvolumes)
    if subvolumes and root != "btrfs":
        raise UsageError(
            f"The root has subvolumes, and its file system is {root}.",
            "Only btrfs has subvolumes: say root.filesystem: btrfs, or leave them out.",
        )
    layout = replace(
        requested_layout(wanted), filesystem=root, extras=extras, subvolumes=subvolumes
    )
    _check_distinct(layout.mountpoints)
    _check_label("root.label", layout.root_label, root)
    for kind in layout.kinds:
        _check_kernel(image_root, kind)
    if layout.group is not None:
        _check_lvm(image_root)
    return layout


def requested_layout(wanted: DiskConfiguration) -> Layout:
    """The layout as far as it can be told without the image; mount points may be links."""
    root = wanted.root.filesystem or _DEFAULT_FILESYSTEM
    return Layout(
        filesystem=root,
        root_label=wanted.root.label or "root",
        root_size=wanted.root.size,
        root_minimum=wanted.root.minimum_size or 0,
        boot_size=wanted.boot.size or max(BOOT_BYTES, wanted.boot.minimum_size or 0),
        esp_size=wanted.esp.size or max(ESP_BYTES, wanted.esp.minimum_size or 0),
        swap_size=wanted.swap.size if wanted.swap else 0,
        swap_label=(wanted.swap.label if wanted.swap else None) or "swap",
        extras=tuple(
            Extra(each.mountpoint, each.size, each.filesystem or root, volume=each.volume or "")
            for each in wanted.filesystems
        ),
        updates=1 if wanted.updates is None else wanted.updates,
        minimum=wanted.minimum_size or 0,
        group=_group(wanted),
    )


def _group(wanted: DiskConfiguration) -> Group | None:
    group = wanted.volume_group
    if group is None:
        return None
    swap = wanted.swap.volume if wanted.swap else None
    return Group(group.name, group.minimum_size or 0, wanted.root.volume or "", swap or "")


def _extra(wanted: ExtraFileSystem, image: Deployment, root: str) -> Extra:
    point = image.resolve(f"{wanted.mountpoint}/.")
    if point != "/var" and not point.startswith("/var/"):
        _check_mount_point(wanted.mountpoint, point, image)
    kind = wanted.filesystem or root
    label = wanted.label or point.rpartition("/")[2][: _LABEL_BYTES[kind]]
    _check_label(f"the label of {point}", label, kind)
    return Extra(
        mountpoint=point,
        size=wanted.size,
        filesystem=kind,
        label=label,
        options=wanted.options,
        name=wanted.partition_label or label,
        type_guid=UUID(wanted.partition_type) if wanted.partition_type else LINUX_DATA,
        guid=UUID(wanted.partition_uuid) if wanted.partition_uuid else None,
        volume=wanted.volume or "",
    )


def _check_mount_point(said: str, point: str, image: Deployment) -> None:
    where = image.root / point.lstrip("/")
    if point.startswith("/usr"):
        raise UsageError(
            f"Nothing can be mounted at {said}: it leads to {point}, which is the image's.",
            "Mount it at /var or below.",
        )
    if not where.is_dir():
        raise UsageError(
            f"The image has no folder {point} to mount a file system at, and its / is read-only.",
            "Make the folder in the Containerfile, or mount at /var or below.",
        )
    if any(where.iterdir()):
        raise UsageError(
            f"The image has files in {point}, which a file system mounted there would hide.",
            "Mount it elsewhere, like below /var.",
        )


def _subvolume(wanted: ConfiguredSubvolume, image: Deployment) -> Subvolume:
    point = image.resolve(f"{wanted.mountpoint}/.")
    if point not in ("/", "/var") and not point.startswith("/var/"):
        _check_mount_point(wanted.mountpoint, point, image)
    return Subvolume(wanted.name, point)


def root_flags(layout: Layout) -> tuple[str, ...]:
    """Kernel arguments by which the root is found: its logical volume, its subvolume."""
    group, name = layout.group, layout.root_subvolume
    flags = () if name is None else (f"rootflags=subvol={name}",)
    return (f"rd.lvm.lv={group.name}/{group.root}", *flags) if group and group.root else flags


def _check_distinct(points: Sequence[str]) -> None:
    for number, point in enumerate(points):
        if point in points[:number]:
            raise UsageError(
                f"Two file systems are to be mounted at {point}: links of the image lead there.",
                "Leave one of them out of the configuration.",
            )


def _check_label(where: str, label: str, kind: str) -> None:
    if len(label.encode()) > _LABEL_BYTES[kind]:
        raise UsageError(
            f"{where} is '{label}', which is too long for {kind}.",
            f"It may have {_LABEL_BYTES[kind]} bytes.",
        )


def _check_lvm(image_root: Path) -> None:
    """Require what finds the volumes at boot, also in the initramfs that was made with it."""
    if not any((image_root / place).exists() for place in ("usr/sbin/lvm", "usr/bin/lvm")):
        raise UserError(
            "The disk is to have a volume group, and the image has no LVM.",
            "Install in the Containerfile: lvm2",
        )


def _check_kernel(image_root: Path, kind: str) -> None:
    """Require a kernel that knows a file system."""
    for kernel in image_root.glob("usr/lib/modules/*"):
        builtin = kernel / "modules.builtin"
        if any(kernel.glob(f"kernel/fs/{kind}/{kind}.ko*")):
            return
        if builtin.is_file() and f"/{kind}.ko" in builtin.read_text():
            return
    if kind != _DEFAULT_FILESYSTEM:
        raise UserError(
            f"The image's kernel has no module for {kind}.",
            "Install another kernel in the Containerfile, or use ext4.",
        )
