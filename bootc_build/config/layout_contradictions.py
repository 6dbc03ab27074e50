"""What in a configuration's layout contradicts itself or what every disk has: sizes, mount points, volumes, labels."""

from collections.abc import Iterable, Iterator
from typing import Final

from bootc_build.config.contradictions import At, repetitions
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.record import Problem

# Names that LVM gives to volumes of its own (lvm(8)).
_RESERVED: Final = ("snapshot", "pvmove")
_RESERVED_PARTS: Final = (
    *("_cdata", "_cmeta", "_corig", "_cvol", "_mimage", "_mlog", "_pmspare", "_rimage"),
    *("_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig", "_imeta", "_iorig"),
)
# Of the file systems at /boot and /boot/efi.
_LABELS: Final = ("boot", "EFI-SYSTEM")
# Of the GUID partition table: entries, and UTF-16 code units in a name (UEFI specification, 5.3).
_ENTRIES: Final = 128
_NAME_UNITS: Final = 36


def layout_contradictions(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    """What contradicts itself in a layout; `at` makes the key that is told of a path in disk.yaml."""
    yield from _size_problems(found, at)
    subvolumes = [
        (at(f"root.subvolumes[{index}].mountpoint"), each.mountpoint)
        for index, each in enumerate(found.root.subvolumes)
    ]
    if subvolumes and all(point != "/" for _key, point in subvolumes):
        yield Problem(at("root.subvolumes"), "has none that is mounted at /", "Add one")
    yield from repetitions(
        (at(f"root.subvolumes[{index}].name"), each.name)
        for index, each in enumerate(found.root.subvolumes)
    )
    yield from repetitions(pair for pair in subvolumes if pair[1] == "/")
    extras = [
        (at(f"filesystems[{index}].mountpoint"), each.mountpoint)
        for index, each in enumerate(found.filesystems)
    ]
    yield from _mount_point_problems([*(pair for pair in subvolumes if pair[1] != "/"), *extras])
    yield from _volume_problems(found, at)
    yield from _label_problems(found, at)
    yield from _partition_problems(found, at)


def _size_problems(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    parts = (("", found), ("root.", found.root), ("boot.", found.boot), ("esp.", found.esp))
    for path, part in parts:
        if part.size is not None and part.minimum_size is not None:
            fact = f"is there beside '{at(f'{path}size')}'"
            yield Problem(at(f"{path}minimum-size"), fact, "Leave one of them out")


def _mount_point_problems(points: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    # Of file systems besides those that every disk has; pairs of key path and mount point.
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


def _volume_problems(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    swap = found.swap.volume if found.swap else None
    named = [("root.volume", found.root.volume), ("swap.volume", swap)]
    for index, each in enumerate(found.filesystems):
        named.append((f"filesystems[{index}].volume", each.volume))
        for key in ("partition_label", "partition_type", "partition_uuid"):
            if each.volume and getattr(each, key):
                path = at(f"filesystems[{index}].{key.replace('_', '-')}")
                yield Problem(path, "is there beside 'volume'", "A volume is in no partition table")
    said = [(at(path), name) for path, name in named if name is not None]
    if said and found.volume_group is None:
        yield Problem(said[0][0], "is there without 'volume-group'", "Say its name")
    if found.volume_group is not None and not said:
        fact = "has no volume"
        yield Problem(at("volume-group"), fact, "Say 'volume' of the root or another")
    yield from repetitions(said)
    for path, name in said:
        if name.startswith(_RESERVED) or any(part in name for part in _RESERVED_PARTS):
            yield Problem(path, f"is {name}, which LVM keeps for itself", "Choose another name")


def _label_problems(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    """Labels and names that two would have: /dev/disk/by-label and by-partlabel lead to one of them by chance."""
    said = [("root.label", found.root.label or "root")]
    if found.swap is not None:
        said.append(("swap.label", found.swap.label or "swap"))
    for number, each in enumerate(found.filesystems):
        if each.label is not None:
            said.append((f"filesystems[{number}].label", each.label))
    seen: dict[str, str] = {}
    for path, label in said:
        if label in _LABELS:
            fact = f"is {label}, which a file system that every disk has is called"
            yield Problem(at(path), fact, "Choose another label")
        elif label in seen:
            fact = f"is {label}, as '{at(seen[label])}' is"
            yield Problem(at(path), fact, "Choose another label")
        seen.setdefault(label, path)


def _partition_problems(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    extras = [(n, each) for n, each in enumerate(found.filesystems) if each.volume is None]
    yield from repetitions(
        (at(f"filesystems[{n}].partition-uuid"), each.partition_uuid) for n, each in extras
    )
    own = _own_partitions(found)
    names: dict[str, str] = {}
    for number, each in extras:
        # The label is the partition's name too where no other one is said.
        key = at(f"filesystems[{number}].{'partition-label' if each.partition_label else 'label'}")
        name = each.partition_label or each.label or ""
        if len(name.encode("utf-16-le")) > 2 * _NAME_UNITS:
            fact = f"is {name}, which is too long for the name of a partition"
            remedy = f"A name in the partition table has at most {_NAME_UNITS} UTF-16 code units"
            yield Problem(key, fact, remedy)
        if name in own and (each.partition_label or name not in _file_system_labels(found)):
            fact = f"is {name}, which a partition that the disk has anyway is called"
            yield Problem(key, fact, "Say another name in the partition table")
        elif each.partition_label and name in names:
            yield Problem(key, f"is {name}, as '{names[name]}' is", "Choose another name")
        if name:
            names.setdefault(name, key)
    count = len(own) + len(extras)
    if count > _ENTRIES:
        fact = f"makes {count} partitions of the disk, and a partition table has {_ENTRIES} entries"
        yield Problem(at("filesystems"), fact, "Leave some out, or put them on volumes")


def _own_partitions(found: DiskConfiguration) -> tuple[str, ...]:
    """The names of the partitions that are no further file systems."""
    swap = ("swap",) if found.swap is not None and found.swap.volume is None else ()
    root = ("root",) if found.root.volume is None else ()
    group = ("lvm",) if found.volume_group is not None else ()
    return ("bios-boot", "esp", "boot", *swap, *root, *group)


def _file_system_labels(found: DiskConfiguration) -> tuple[str, ...]:
    """The labels of the file systems that are no further ones."""
    swap = () if found.swap is None else (found.swap.label or "swap",)
    return (*_LABELS, found.root.label or "root", *swap)
