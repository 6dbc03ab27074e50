"""The shape of a disk, decided before anything is written: partitions, identifiers, times. Pure.

Everything that could differ between two builds of the same input (UUIDs, serial numbers, hash seeds,
times) is derived here from the image's digest and the configuration.

Sizes and offsets are in bytes; a sector is 512 bytes; every partition begins and ends on a whole MiB.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from bootc_build.disk import lvm
from bootc_build.disk.capacity import capacity, smallest_size
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.wanted import (
    LARGEST_DISK,
    LARGEST_DISK_BYTES,
    LINUX_DATA,
    Extra,
    Layout,
)
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, in_words

SECTOR = 512
# 2 sectors a cluster make it FAT32 by the cluster count: 65,525 of them at least.
_SMALLEST_ESP = 66 * MIB

# A GPT needs 34 sectors at the front and 33 at the end; whole MiB keep everything aligned.
_TABLE_BYTES = MIB

# For logs, caches and what people install, on the root or wherever /var is.
MACHINE_BYTES = 256 * MIB
# A disk that is sparse costs little, but volumes of a cloud are paid by their size.
_MOST_TIMES_USUAL = 4
# libostree refuses to write where less would stay free (core.min-free-space-percent).
_KEPT_FREE_PERCENT = 3
# "Grow file system" of the Discoverable Partitions Specification. grow-root of the image enlarges what has it, the
# physical volume of a root too; systemd passes over a partition of LVM's type, whatever its attributes.
GROW_ATTRIBUTE = 59
_USUAL = Layout()


# The Discoverable Partitions Specification and the GPT registry of types. /boot is plain Linux data and
# not XBOOTLDR: systemd-gpt-auto-generator mounts that type with nosymfollow, and /boot/loader is a link.
_TYPES = {
    Role.BIOS_BOOT: UUID("21686148-6449-6e6f-744e-656564454649"),
    Role.ESP: UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    Role.BOOT: LINUX_DATA,
    Role.SWAP: UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    Role.EXTRA: LINUX_DATA,
    Role.VOLUMES: lvm.PARTITION_TYPE,
}
# Architecture -> the type of its root partitions, and whether it knows BIOS.
_ROOT_TYPES = {
    "amd64": UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    "arm64": UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
}


@dataclass(frozen=True)
class Partition:
    """One partition, or a logical volume as if it were one.

    Attributes:
        role: what it is for.
        number: its place in the table, from 1; of a volume, one that no partition has.
        start: first byte on the disk.
        size: length in bytes.
        type_guid: GPT type.
        guid: GPT unique id.
        name: in the partition table.
        attributes: numbers of the GPT attribute bits that are set.
        extra: the further file system that it is for.
        volume: name of the logical volume; empty for a partition.
    """

    role: Role
    number: int
    start: int
    size: int
    type_guid: UUID
    guid: UUID
    name: str
    attributes: tuple[int, ...] = ()
    extra: Extra | None = None
    volume: str = ""

    @property
    def start_sector(self) -> int:
        """First sector."""
        return self.start // SECTOR

    @property
    def sectors(self) -> int:
        """Length in sectors."""
        return self.size // SECTOR


@dataclass(frozen=True)
class Contents:
    """How much there is to store, in bytes as the file system will allocate them; extras by mount point.

    ``least`` is what a program wants that makes a file system, whatever it will allocate; by mount point, too.
    """

    root: int
    boot: int = 0
    esp: int = 0
    extras: Mapping[str, int] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)

    @property
    def least_root(self) -> int:
        """Of the root; 0 where no program wants anything."""
        return self.least.get("/", 0)


@dataclass(frozen=True)
class DiskPlan:
    """A whole disk.

    Attributes:
        size: bytes of the whole disk.
        identity: its identifiers.
        timestamp: seconds since the epoch, for every time that would otherwise be "now".
        partitions: in the order of the disk.
        layout: what was wanted.
        volumes: the logical volumes, in the order of the disk; they lie in the partition of volumes.
    """

    size: int
    identity: Identity
    timestamp: int
    partitions: tuple[Partition, ...]
    layout: Layout = _USUAL
    volumes: tuple[Partition, ...] = ()

    @property
    def places(self) -> tuple[Partition, ...]:
        """All that something is written to, partitions and logical volumes, in the order of the disk: the root is last."""
        return tuple(sorted((*self.partitions, *self.volumes), key=lambda place: place.start))

    def partition(self, role: Role) -> Partition:
        """The partition, or the logical volume, with this role."""
        return next(part for part in self.places if part.role is role)


def plan_disk(
    identity: Identity,
    contents: Contents,
    *,
    timestamp: int,
    size: int | None = None,
    unit: int = MIB,
    layout: Layout = _USUAL,
) -> DiskPlan:
    """Lay out a disk.

    Args:
        identity: where the identifiers come from.
        contents: what has to fit, measured or estimated.
        timestamp: seconds since the epoch.
        size: bytes of the whole disk; None for the smallest that holds the contents and the updates.
        unit: what the size must be a multiple of, for the sake of where the disk goes.
        layout: what is wanted of the partitions.

    Raises:
        UsageError: the contents do not fit, the size is no multiple, or beyond what can be made.
    """
    _check_largest(size or 0)
    if size is not None and unit > MIB and size % unit:
        raise UsageError(
            f"A disk of {in_words(size)} cannot be a volume of the clouds that are asked for.",
            f"Give --size in whole {in_words(unit).removeprefix('1 ')}, like {-(-size // GIB)}G.",
        )
    inside = (contents.extras.get(each.mountpoint, 0) for each in layout.subvolumes)
    contents = replace(contents, root=contents.root + sum(inside))
    _check_fits(contents, layout)
    needed = smallest_disk(contents, layout)
    if size is None:
        _check_reasonable(contents, layout)
        size = max(_disk_with_root(layout, _comfortable_root(contents, layout)), layout.minimum)
        size = _round_up(size, unit)
    _check_largest(max(size, needed))
    if size < needed:
        raise UsageError(
            f"A disk of {in_words(size)} is too small for this image.",
            f"It needs {in_words(needed)} at least, and room for updates: --size "
            f"{_round_up(needed + contents.root, GIB) // GIB}G or more.",
        )
    size = size // MIB * MIB
    left = size - _disk_with_root(layout, 0)
    partitions = tuple(_partitions(identity, layout, left))
    volumes = tuple(_volumes(identity, layout, partitions))
    return DiskPlan(size, identity, timestamp, partitions, layout, volumes)


def _check_largest(size: int) -> None:
    if size > LARGEST_DISK_BYTES:
        raise UsageError(
            f"A disk of {in_words(size)} is more than can be made here: {LARGEST_DISK}.",
            "Give it or its file systems less; a disk can be enlarged afterwards.",
        )


def smallest_disk(contents: Contents, layout: Layout = _USUAL) -> int:
    """Bytes of the smallest disk that holds these contents, without room for an update."""
    root = max(smallest_size(layout.filesystem, contents.root), contents.least_root)
    root = max(root, layout.root_minimum)
    return max(_disk_with_root(layout, layout.root_size or root), layout.minimum)


def _comfortable_root(contents: Contents, layout: Layout) -> int:
    """Bytes of a root partition that takes the updates too."""
    if layout.root_size is not None:
        return layout.root_size
    # In the worst case, an update shares no file with what is there.
    bytes_ = contents.root * (1 + layout.updates)
    if layout.updates:
        bytes_ += bytes_ * _KEPT_FREE_PERCENT // (100 - _KEPT_FREE_PERCENT)
    if all(each.mountpoint != "/var" for each in layout.extras):
        bytes_ += MACHINE_BYTES
    root = max(smallest_size(layout.filesystem, bytes_), layout.root_minimum)
    return max(root, contents.least_root)


def _check_reasonable(contents: Contents, layout: Layout) -> None:
    """Refuse to choose a disk that is many times as large as the image makes plausible."""
    least = contents.least_root
    usual = _comfortable_root(replace(contents, least={}), layout)
    if least > _MOST_TIMES_USUAL * usual:
        raise UsageError(
            f"mkfs.{layout.filesystem} wants {in_words(least)} for the root, where {in_words(usual)} would hold the "
            "image and its updates: it reckons with 32 KiB for each name of a file.",
            f"Take ext4 or xfs, or a disk of that size, if it may be so large: --size "
            f"{_round_up(_disk_with_root(layout, least), GIB) // GIB}G",
        )


def _disk_with_root(layout: Layout, root: int) -> int:
    sizes = [size for _role, size, _extra in _wanted(layout) if size]
    group = _group_size(layout, root) if layout.group else 0
    sizes += [group, 0 if layout.root_volume else root]
    return 2 * _TABLE_BYTES + sum(_round_up(each, MIB) for each in sizes)


def _wanted(layout: Layout) -> Iterator[tuple[Role, int, Extra | None]]:
    """Partitions before the root and the volumes, with their sizes."""
    yield Role.BIOS_BOOT, layout.bios_boot_size, None
    yield Role.ESP, layout.esp_size, None
    yield Role.BOOT, layout.boot_size, None
    if not layout.swap_volume:
        yield Role.SWAP, layout.swap_size, None
    for extra in layout.extras:
        if not extra.volume:
            yield Role.EXTRA, extra.size, extra


def _group_size(layout: Layout, root: int) -> int:
    sizes = [each.size for each in layout.extras if each.volume]
    sizes += [layout.swap_size] if layout.swap_volume else []
    sizes += [root] if layout.root_volume else []
    return max(lvm.group_size(sizes), layout.group.minimum if layout.group else 0)


def _partitions(identity: Identity, layout: Layout, left: int) -> Iterator[Partition]:
    """The partitions; the last one is the root, or the volumes that it is among, and has what is left."""
    wanted = [each for each in _wanted(layout) if each[1]]
    root = layout.root_size or left
    if layout.group and not layout.root_volume:
        wanted.append((Role.VOLUMES, _group_size(layout, 0), None))
    if layout.root_volume:
        wanted.append((Role.VOLUMES, _group_size(layout, 0) + left, None))
    else:
        # Last, so that it can grow.
        wanted.append((Role.ROOT, root, None))
    growing = Role.VOLUMES if layout.root_volume else Role.ROOT
    start = _TABLE_BYTES
    for number, (role, size, extra) in enumerate(wanted, 1):
        length = _round_up(size, MIB)
        purpose = f"{role.value} {extra.mountpoint}" if extra else role.value
        derived = identity.uuid(f"{purpose} partition")
        own_type = _ROOT_TYPES[layout.architecture] if role is Role.ROOT else _TYPES[role]
        grows = role is growing and layout.root_size is None
        yield Partition(
            role,
            number,
            start,
            length,
            extra.type_guid if extra else own_type,
            extra.guid or derived if extra else derived,
            name=extra.name if extra else role.value,
            attributes=(GROW_ATTRIBUTE,) if grows else (),
            extra=extra,
        )
        start += length


def _volumes(
    identity: Identity, layout: Layout, partitions: tuple[Partition, ...]
) -> Iterator[Partition]:
    """The logical volumes, one after the other; the root is last and has what is left, unless its size was said."""
    if layout.group is None:
        return
    place = next(part for part in partitions if part.role is Role.VOLUMES)
    wanted: list[tuple[Role, str, int, Extra | None]] = []
    if layout.swap_volume:
        wanted.append((Role.SWAP, layout.swap_volume, layout.swap_size, None))
    wanted += [(Role.EXTRA, each.volume, each.size, each) for each in layout.extras if each.volume]
    start, end = place.start + lvm.DATA_START, place.start + place.size
    if layout.root_volume:
        before = sum(_round_up(size, lvm.EXTENT) for _role, _name, size, _extra in wanted)
        left = (end - start - before) // lvm.EXTENT * lvm.EXTENT
        wanted.append((Role.ROOT, layout.root_volume, layout.root_size or left, None))
    for number, (role, name, size, extra) in enumerate(wanted, len(partitions) + 1):
        length = _round_up(size, lvm.EXTENT)
        guid = identity.uuid(f"{name} logical volume")
        yield Partition(
            role, number, start, length, LINUX_DATA, guid, name, extra=extra, volume=name
        )
        start += length


def _check_fits(contents: Contents, layout: Layout) -> None:
    # An update puts its kernel beside those that are there before an old one goes.
    _check_room("/boot", contents.boot * 2, "ext4", layout.boot_size, "boot.size")
    if contents.esp > layout.esp_size * 9 // 10:
        raise UsageError(
            f"The boot loader's files need {in_words(contents.esp)}, the EFI system partition has "
            f"{in_words(layout.esp_size)}.",
            "Give it more: esp.size",
        )
    if layout.esp_size < _SMALLEST_ESP:
        raise UsageError(
            f"An EFI system partition of {in_words(layout.esp_size)} is too small for FAT32.",
            f"esp.size has to be {in_words(_SMALLEST_ESP)} or more.",
        )
    for extra in layout.extras:
        inside = contents.extras.get(extra.mountpoint, 0)
        least = contents.least.get(extra.mountpoint, 0)
        key = "filesystems: size"
        _check_room(extra.mountpoint, inside, extra.filesystem, extra.size, key, least=least)
    if layout.root_size is not None:
        kind, size, least = layout.filesystem, layout.root_size, contents.least_root
        _check_room("the root", contents.root, kind, size, "root.size", least=least)


def _check_room(
    where: str, contents: int, filesystem: str, size: int, key: str, *, least: int = 0
) -> None:
    needed = max(smallest_size(filesystem, contents), least)
    if size < needed or capacity(filesystem, size) < contents:
        raise UsageError(
            f"The files for {where} need {in_words(needed)} of {filesystem}, its partition has "
            f"{in_words(size)}.",
            f"Give it more ({key}), or make the image smaller.",
        )


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
