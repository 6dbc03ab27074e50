"""The part of a blueprint that is about partitions and file systems."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from bootc_build.config.blueprint_records import (
    Customizations,
    LogicalVolume,
    PartitionCustomization,
)
from bootc_build.config.contradictions import repetitions
from bootc_build.config.disk import FILE_SYSTEMS
from bootc_build.config.record import Problem

_TOP: Final = "customizations"
_DISK: Final = f"{_TOP}.disk"
_OWN: Final[Mapping[str, str]] = {"/": "root", "/boot": "boot", "/boot/efi": "esp"}
_SECTOR: Final = 512
LVM_REASON: Final = "Say the volumes in disk.yaml or a blueprint: docs/disk.md"
# osbuild's names for what partitioning_mode = "lvm" makes, and for volumes without one.
_ROOT_GROUP: Final = "rootvg"
_GROUP: Final = "vg00"
_FOUND_BY_TYPE: Final = (
    "The boot loader and systemd find this partition by the type and name that it has here"
)


def layout_problems(custom: Customizations) -> Iterator[Problem]:
    """What is wrong with a blueprint's layout, or cannot be done."""
    if custom.filesystem and custom.disk is not None:
        yield Problem(f"{_TOP}.filesystem", f"is there beside '{_DISK}'", "Use one of them")
    for number, each in enumerate(custom.filesystem):
        place = f"{_TOP}.filesystem[{number}]"
        if (each.minsize is None) == (each.size is None):
            yield Problem(f"{place}.minsize", "is missing, or there beside 'size'", "Say it once")
    points = [
        (f"{_TOP}.filesystem[{number}].mountpoint", each.mountpoint)
        for number, each in enumerate(custom.filesystem)
    ]
    yield from _mode_problems(custom)
    if custom.disk is not None:
        if custom.disk.type != "gpt":
            yield Problem(f"{_DISK}.type", f"is {custom.disk.type}", "Allowed: gpt")
        if custom.disk.sector_size != _SECTOR:
            yield Problem(f"{_DISK}.sector_size", f"is {custom.disk.sector_size}", "Allowed: 512")
        for number, part in enumerate(custom.disk.partitions):
            place = f"{_DISK}.partitions[{number}]"
            yield from _partition_problems(part, place)
            points.append((f"{place}.mountpoint", part.mountpoint or ""))
            points += [
                (f"{place}.subvolumes[{index}].mountpoint", each.mountpoint)
                for index, each in enumerate(part.subvolumes)
            ]
            points += [
                (f"{place}.logical_volumes[{index}].mountpoint", volume.mountpoint or "")
                for index, volume in enumerate(part.logical_volumes)
            ]
        groups = [
            number for number, part in enumerate(custom.disk.partitions) if part.type == "lvm"
        ]
        for number in groups[1:]:
            yield Problem(
                f"{_DISK}.partitions[{number}].type", "is lvm for a second time", "One volume group"
            )
        yield from _swap_problems(custom.disk.partitions)
    # Of these the second would take the place of the first; the others are looked at in what they become.
    yield from repetitions((key, point) for key, point in points if point in _OWN)


def _swap_problems(partitions: Iterable[PartitionCustomization]) -> Iterator[Problem]:
    swaps = []
    for number, part in enumerate(partitions):
        place = f"{_DISK}.partitions[{number}]"
        if part.fs_type == "swap":
            swaps.append(f"{place}.fs_type")
        swaps += [
            f"{place}.logical_volumes[{index}].fs_type"
            for index, each in enumerate(part.logical_volumes)
            if each.fs_type == "swap"
        ]
    for again in swaps[1:]:
        yield Problem(again, f"is swap, as '{swaps[0]}' is", "One swap is made: leave one out")


def _mode_problems(custom: Customizations) -> Iterator[Problem]:
    place, mode = f"{_TOP}.partitioning_mode", custom.partitioning_mode
    if mode not in ("", "default", "raw", "lvm", "auto-lvm", "btrfs"):
        yield Problem(place, f"is {mode}", "Allowed: default, raw, lvm, auto-lvm, btrfs")
    elif mode not in ("", "default") and custom.disk is not None:
        yield Problem(place, f"is there beside '{_DISK}'", "Use one of them")


def _partition_problems(part: PartitionCustomization, place: str) -> Iterator[Problem]:
    if part.type == "lvm":
        yield from _group_problems(part, place)
        return
    if part.type == "btrfs":
        yield from _btrfs_problems(part, place)
        return
    if part.type != "plain":
        yield Problem(f"{place}.type", f"is {part.type}", "Allowed: plain, btrfs, lvm")
        return
    for key in ("name", "logical_volumes", "subvolumes"):
        if getattr(part, key):
            yield Problem(f"{place}.{key}", "does not belong to a plain partition")
    if part.minsize is None:
        yield Problem(f"{place}.minsize", "is missing")
    yield from _file_system_problems(part, place)


def _group_problems(part: PartitionCustomization, place: str) -> Iterator[Problem]:
    for key in ("subvolumes", "mountpoint", "label", "fs_type"):
        if getattr(part, key):
            yield Problem(f"{place}.{key}", "does not belong to a volume group")
    for key in ("part_type", "part_label", "part_uuid"):
        if getattr(part, key):
            yield Problem(f"{place}.{key}", "cannot be honoured", _FOUND_BY_TYPE)
    if not part.logical_volumes:
        yield Problem(f"{place}.logical_volumes", "is missing")
    for number, volume in enumerate(part.logical_volumes):
        inside = f"{place}.logical_volumes[{number}]"
        if volume.mountpoint in ("/boot", "/boot/efi"):
            yield Problem(
                f"{inside}.mountpoint",
                f"is {volume.mountpoint}, which the boot loader does not find on a volume",
                "Leave it out: every disk has a partition for it",
            )
        if volume.minsize is None:
            yield Problem(f"{inside}.minsize", "is missing")
        yield from _file_system_problems(_as_partition(volume), inside)


def _as_partition(volume: LogicalVolume) -> PartitionCustomization:
    return PartitionCustomization(
        minsize=volume.minsize,
        mountpoint=volume.mountpoint,
        label=volume.label,
        fs_type=volume.fs_type,
    )


def _volume_name(volume: LogicalVolume) -> str:
    """A volume's name, or the one that osbuild gives one without."""
    if volume.name:
        return volume.name
    if volume.fs_type == "swap":
        return "swaplv"
    path = (volume.mountpoint or "").strip("/").replace("/", "_")
    return f"{path or 'root'}lv"


def _btrfs_problems(part: PartitionCustomization, place: str) -> Iterator[Problem]:
    for key in ("name", "logical_volumes", "mountpoint", "label", "fs_type"):
        if getattr(part, key):
            yield Problem(f"{place}.{key}", "does not belong to a btrfs partition")
    for key in ("part_type", "part_label", "part_uuid"):
        if getattr(part, key):
            yield Problem(f"{place}.{key}", "cannot be honoured", _FOUND_BY_TYPE)
    if part.minsize is None:
        yield Problem(f"{place}.minsize", "is missing")
    if all(each.mountpoint != "/" for each in part.subvolumes):
        yield Problem(
            f"{place}.subvolumes",
            "has none that is mounted at /, which cannot be honoured",
            "Subvolumes are made on the root; use a plain partition with fs_type btrfs",
        )
    yield from repetitions(
        (f"{place}.subvolumes[{number}].name", each.name)
        for number, each in enumerate(part.subvolumes)
    )


def _file_system_problems(part: PartitionCustomization, place: str) -> Iterator[Problem]:
    kind, point = part.fs_type, part.mountpoint
    if kind == "swap" and point:
        yield Problem(f"{place}.mountpoint", "is there for a swap partition", "Leave it out")
    if kind != "swap" and not point:
        yield Problem(f"{place}.mountpoint", "is missing", "A partition without a use is not made")
    allowed = _allowed_file_systems(part)
    if kind is None:
        yield Problem(f"{place}.fs_type", "is missing", f"Allowed: {', '.join(allowed)}")
    elif kind not in allowed:
        yield Problem(f"{place}.fs_type", f"is {kind}", f"Allowed there: {', '.join(allowed)}")
    fixed = ("part_type", "part_label", "part_uuid") if kind == "swap" or point in _OWN else ()
    for key in (each for each in fixed if getattr(part, each)):
        yield Problem(f"{place}.{key}", "cannot be honoured", _FOUND_BY_TYPE)
    if part.label and point in ("/boot", "/boot/efi"):
        yield Problem(f"{place}.label", "cannot be honoured", "Its label is fixed")


def _allowed_file_systems(part: PartitionCustomization) -> tuple[str, ...]:
    only = {"/boot": ("ext4",), "/boot/efi": ("vfat",)}
    if part.mountpoint is None:
        return (*FILE_SYSTEMS, "swap")
    return only.get(part.mountpoint, FILE_SYSTEMS)


def layout_document(custom: Customizations) -> tuple[dict[str, Any], dict[str, str]]:
    """The layout in disk.yaml's form, and which key of the blueprint each of its keys comes from."""
    document: dict[str, Any] = {"filesystems": []}
    places: dict[str, str] = {}
    for number, each in enumerate(custom.filesystem):
        _add(
            document,
            places,
            PartitionCustomization(mountpoint=each.mountpoint, minsize=each.minsize or each.size),
            f"{_TOP}.filesystem[{number}]",
        )
    if custom.partitioning_mode == "btrfs":
        document.setdefault("root", {})["filesystem"] = "btrfs"
    extras = document["filesystems"]
    if custom.partitioning_mode == "lvm" or (custom.partitioning_mode == "auto-lvm" and extras):
        document["volume-group"] = {"name": _ROOT_GROUP}
        document.setdefault("root", {})["volume"] = "rootlv"
        for number, each in enumerate(extras):
            each["volume"] = _volume_name(LogicalVolume(mountpoint=each["mountpoint"]))
            # No key says it: it is made of the mount point.
            place = places[f"filesystems[{number}].mountpoint"]
            places[f"filesystems[{number}].volume"] = place
    if custom.disk is not None:
        if custom.disk.minsize is not None:
            document["minimum-size"] = custom.disk.minsize
            places["minimum-size"] = f"{_DISK}.minsize"
        for number, part in enumerate(custom.disk.partitions):
            _add(document, places, part, f"{_DISK}.partitions[{number}]")
    return document, places


def _add(
    document: dict[str, Any],
    places: dict[str, str],
    part: PartitionCustomization,
    place: str,
    volume: str | None = None,
) -> None:
    if part.type == "lvm":
        group = {"name": part.name or _GROUP, "minimum-size": part.minsize}
        document["volume-group"] = _said(group)
        places["volume-group"] = place
        places["volume-group.minimum-size"] = f"{place}.minsize"
        for number, each in enumerate(part.logical_volumes):
            inside = f"{place}.logical_volumes[{number}]"
            _add(document, places, _as_partition(each), inside, volume=_volume_name(each))
        return
    if part.type == "btrfs":
        document["root"] = {
            "filesystem": "btrfs",
            "minimum-size": part.minsize,
            "subvolumes": [each.model_dump() for each in part.subvolumes],
        }
        _keep_places(places, "root", place)
        return
    if part.mountpoint in _OWN or part.fs_type == "swap":
        _add_own(document, places, part, place, volume)
        return
    entry = {
        "mountpoint": part.mountpoint or "",
        "size": part.minsize,
        "filesystem": part.fs_type,
        "label": part.label,
        "partition-type": part.part_type,
        "partition-label": part.part_label,
        "partition-uuid": part.part_uuid,
        "volume": volume,
    }
    _keep_places(places, f"filesystems[{len(document['filesystems'])}]", place)
    document["filesystems"].append(_said(entry))


def _add_own(
    document: dict[str, Any],
    places: dict[str, str],
    part: PartitionCustomization,
    place: str,
    volume: str | None,
) -> None:
    """Add what there is once on a disk."""
    key = _OWN.get(part.mountpoint or "", "swap")
    size = "size" if key == "swap" else "minimum-size"
    entry: dict[str, Any] = {size: part.minsize}
    if key == "root":
        entry["filesystem"] = part.fs_type
    if key in ("root", "swap"):
        entry |= {"label": part.label, "volume": volume}
    document[key] = {**document.get(key, {}), **_said(entry)}
    _keep_places(places, key, place)


# disk.yaml's keys of a file system, and a blueprint's.
_NAMES: Final[Mapping[str, str]] = {
    "mountpoint": "mountpoint",
    "size": "minsize",
    "minimum-size": "minsize",
    "filesystem": "fs_type",
    "partition-type": "part_type",
    "partition-label": "part_label",
    "partition-uuid": "part_uuid",
    "volume": "name",
}


def _keep_places(places: dict[str, str], key: str, place: str) -> None:
    places[key] = place
    places |= {f"{key}.{ours}": f"{place}.{theirs}" for ours, theirs in _NAMES.items()}


def _said(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}
