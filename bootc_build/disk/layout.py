"""What is wanted of a disk's partitions: the user's configuration, completed by what the image says.

Nothing is written here; the image is looked into.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from bootc_build.config.disk import DiskConfiguration, ExtraFileSystem, FileSystem
from bootc_build.config.disk import Subvolume as ConfiguredSubvolume
from bootc_build.config.record import Problem
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
    """The layout for one image; whether that can have it, `layout_problems` says.

    Args:
        wanted: what the user says.
        image_root: the image's file system.
        install: what the image says about its own installation; what the user says comes first.
    """
    image = Deployment(image_root, image_root / "var")
    root = wanted.root.filesystem or install.root_fs_type or _DEFAULT_FILESYSTEM
    extras = tuple(_extra(each, image, root) for each in wanted.filesystems)
    subvolumes = tuple(_subvolume(each, image) for each in wanted.root.subvolumes)
    return replace(requested_layout(wanted), filesystem=root, extras=extras, subvolumes=subvolumes)


def layout_problems(
    layout: Layout, wanted: DiskConfiguration, image_root: Path
) -> Iterator[Problem]:
    """What of a layout the image cannot have, by the configuration's keys: mount points, labels, its kernel.

    Args:
        layout: as `image_layout` decides it.
        wanted: what it was decided from.
        image_root: the image's file system.
    """
    root = layout.filesystem
    if layout.subvolumes and root != "btrfs":
        fact = f"is there, and the root's file system is {root}"
        yield Problem("root.subvolumes", fact, "Say root.filesystem: btrfs, or leave them out")
    yield from _mount_problems(layout, wanted, image_root)
    labels = [("root.label", layout.root_label, root)]
    labels += [
        (f"filesystems[{n}].label", each.label, each.filesystem)
        for n, each in enumerate(layout.extras)
    ]
    for key, label, kind in labels:
        if len(label.encode()) > _LABEL_BYTES[kind]:
            fact = f"is '{label}', which is too long for {kind}"
            yield Problem(key, fact, f"It may have {_LABEL_BYTES[kind]} bytes")
    kinds = {root: "root.filesystem"}
    for number, each in enumerate(layout.extras):
        kinds.setdefault(each.filesystem, f"filesystems[{number}].filesystem")
    for kind, key in kinds.items():
        if not _kernel_knows(image_root, kind):
            fact = f"is {kind}, and the image's kernel has no module for {kind}"
            yield Problem(key, fact, "Install another kernel in the Containerfile, or use ext4")
    if layout.group is not None and not _has_lvm(image_root):
        fact = "is there, and the image has no LVM"
        yield Problem("volume-group", fact, "Install in the Containerfile: lvm2")


def _mount_problems(
    layout: Layout, wanted: DiskConfiguration, image_root: Path
) -> Iterator[Problem]:
    decided = [(each.mountpoint, "filesystems") for each in layout.extras]
    decided += [(each.mountpoint, "root.subvolumes") for each in layout.subvolumes]
    said = [
        *enumerate(each.mountpoint for each in wanted.filesystems),
        *enumerate(each.mountpoint for each in wanted.root.subvolumes),
    ]
    seen = set()
    for (point, key), (number, text) in zip(decided, said, strict=True):
        path = f"{key}[{number}].mountpoint"
        if point in seen:
            fact = f"is {text}, and so is another: links of the image lead both to {point}"
            yield Problem(path, fact, "Leave one of them out")
        elif point not in ("/", "/var") and not point.startswith("/var/"):
            yield from _outside_var(path, text, point, image_root)
        seen.add(point)


def _outside_var(key: str, said: str, point: str, image_root: Path) -> Iterator[Problem]:
    where = image_root / point.lstrip("/")
    if point.startswith("/usr"):
        fact = f"is {said}, and it leads to {point}, which is the image's"
        yield Problem(key, fact, "Mount it at /var or below")
    elif not where.is_dir():
        fact = f"is {said}, and the image has no folder {point} to mount a file system at, and a read-only /"
        yield Problem(key, fact, "Make the folder in the Containerfile, or mount at /var or below")
    elif any(where.iterdir()):
        fact = (
            f"is {said}, and the image has files in {point}, which a file system there would hide"
        )
        yield Problem(key, fact, "Mount it elsewhere, like below /var")


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
    kind = wanted.filesystem or root
    label = wanted.label or point.rpartition("/")[2][: _LABEL_BYTES[kind]]
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


def _subvolume(wanted: ConfiguredSubvolume, image: Deployment) -> Subvolume:
    return Subvolume(wanted.name, image.resolve(f"{wanted.mountpoint}/."))


def root_flags(layout: Layout) -> tuple[str, ...]:
    """Kernel arguments by which the root is found: its logical volume, its subvolume."""
    group, name = layout.group, layout.root_subvolume
    flags = () if name is None else (f"rootflags=subvol={name}",)
    return (f"rd.lvm.lv={group.name}/{group.root}", *flags) if group and group.root else flags


def _has_lvm(image_root: Path) -> bool:
    """Whether there is what finds the volumes at boot, also in the initramfs that was made with it."""
    return any((image_root / place).exists() for place in ("usr/sbin/lvm", "usr/bin/lvm"))


def _kernel_knows(image_root: Path, kind: str) -> bool:
    if kind == _DEFAULT_FILESYSTEM:
        return True
    for kernel in image_root.glob("usr/lib/modules/*"):
        builtin = kernel / "modules.builtin"
        if any(kernel.glob(f"kernel/fs/{kind}/{kind}.ko*")):
            return True
        if builtin.is_file() and f"/{kind}.ko" in builtin.read_text():
            return True
    return False
