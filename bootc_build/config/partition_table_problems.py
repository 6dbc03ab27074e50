"""What is wrong in osbuild's disk.yaml, and what in it cannot be kept."""

from collections.abc import Iterator, Sequence
from typing import Final

from bootc_build.config.blueprint_layout import LVM_REASON
from bootc_build.config.contradictions import repetitions
from bootc_build.config.disk import FILE_SYSTEMS
from bootc_build.config.partition_table_records import (
    KEYS,
    LINUX,
    SECTOR,
    TOP,
    Document,
    Partition,
    Payload,
)
from bootc_build.config.record import Problem

_ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_SWAP: Final = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
# What a partition that every disk has may be said to be: its own type, or one that comes to the same.
_FIXED_TYPES: Final = {
    "/": ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", LINUX),
    "/boot": ("bc13c2ff-59e6-4262-a352-b275fd6f7172", LINUX),
    "/boot/efi": (_ESP,),
}
# "ESP" is what osbuild's own tables call the one that is EFI-SYSTEM here; nobody finds it by its label.
_FIXED_LABELS: Final = {"/boot": ("boot",), "/boot/efi": ("EFI-SYSTEM", "ESP")}
_FIXED_KINDS: Final = {"/": FILE_SYSTEMS, "/boot": ("ext4",), "/boot/efi": ("vfat",)}


def table_problems(found: Document, payloads: Sequence[Payload]) -> Iterator[Problem]:
    """What is wrong with a partition table; `payloads` are those of its partitions."""
    table = found.partition_table
    if found.mount_configuration not in ("none", "fstab", "units"):
        fact = f"is {found.mount_configuration}"
        yield Problem("mount_configuration", fact, "Allowed: none, fstab, units")
    if table.type != "gpt":
        yield Problem("partition_table.type", f"is {table.type}", "Allowed: gpt")
    if table.sector_size != SECTOR:
        yield Problem("partition_table.sector_size", f"is {table.sector_size}", "Allowed: 512")
    for key in ("uuid", "start_offset", "extra_padding", "policy"):
        if getattr(table, key) is not None:
            yield _not_kept(f"partition_table.{key}")
    pairs = list(zip(table.partitions, payloads, strict=True))
    for number, (partition, payload) in enumerate(pairs):
        yield from _partition_problems(partition, payload, f"{TOP}[{number}]")
    # Two of one kind: the second would take the place of the first.
    yield from repetitions(
        (f"{TOP}[{number}].{key}", value)
        for number, (partition, payload) in enumerate(pairs)
        for key, value in _once(partition, payload)
    )
    if found.mount_configuration == "none":
        for payload in payloads:
            if payload.mountpoint is not None and payload.mountpoint not in KEYS:
                fact = f"is none, so nothing mounts {payload.mountpoint}"
                yield Problem("mount_configuration", fact, "Say fstab")


def _once(partition: Partition, payload: Payload) -> Iterator[tuple[str, str]]:
    """What a partition is that there is once on a disk, and by which key."""
    if partition.is_bios_boot:
        yield "type", "that of the BIOS boot partition"
    elif partition.payload_type == "swap":
        yield "payload_type", "swap"
    elif payload.mountpoint in KEYS:
        yield "payload.mountpoint", payload.mountpoint


def _not_kept(place: str) -> Problem:
    return Problem(
        place, "cannot be honoured", "It follows from image and configuration: leave it out"
    )


def _partition_problems(partition: Partition, payload: Payload, place: str) -> Iterator[Problem]:
    kind = partition.payload_type
    if kind in ("lvm", "luks", "btrfs"):
        reason = LVM_REASON if kind == "lvm" else "Use a file system, and see docs/disk.md"
        yield Problem(f"{place}.payload_type", f"is {kind}, which cannot be honoured", reason)
        return
    for key in ("start", "attrs"):
        if getattr(partition, key) is not None:
            yield _not_kept(f"{place}.{key}")
    if partition.is_bios_boot:
        yield from _bios_boot_problems(partition, place)
        return
    if partition.bootable:
        yield _not_kept(f"{place}.bootable")
    for key in ("uuid", "mkfs_options"):
        if getattr(payload, key) is not None:
            yield _not_kept(f"{place}.payload.{key}")
    if kind == "swap":
        yield from _swap_problems(partition, payload, place)
    elif kind == "filesystem":
        yield from _file_system_problems(partition, payload, place)
    else:
        yield Problem(f"{place}.payload_type", f"is '{kind}'", "Allowed: filesystem, swap")


def _file_system_problems(partition: Partition, payload: Payload, place: str) -> Iterator[Problem]:
    point = payload.mountpoint
    if point is None:
        yield Problem(f"{place}.payload.mountpoint", "is missing")
        return
    allowed = _FIXED_KINDS.get(point, FILE_SYSTEMS)
    if payload.type is not None and payload.type not in allowed:
        words = ", ".join(allowed)
        yield Problem(f"{place}.payload.type", f"is {payload.type}", f"Allowed there: {words}")
    # The EFI system partition is not mounted on the machine, so how it would be does not matter. ext4 is checked
    # at boot, which does nothing to one that is whole; the others' checks are empty programs.
    if point != "/boot/efi":
        extra = 2 if payload.type in (None, "ext4") else 0
        yield from _fstab_problems(payload, place, checked={"/": 1, "/boot": 2}.get(point, extra))
    if point in KEYS:
        yield from _fixed_problems(partition, payload, place)


def _bios_boot_problems(partition: Partition, place: str) -> Iterator[Problem]:
    # Its id, its size and its being bootable are said in osbuild's own tables, and mean nothing: GRUB's
    # second stage is found by its place on the disk, and fits into the partition that is always made for it.
    for key in ("label", "payload"):
        if getattr(partition, key):
            yield _not_kept(f"{place}.{key}")


def _swap_problems(partition: Partition, payload: Payload, place: str) -> Iterator[Problem]:
    yield from _type_problem(partition, (_SWAP, LINUX), place)
    for key in ("uuid", "label"):
        if getattr(partition, key) is not None:
            yield _not_kept(f"{place}.{key}")
    for key in ("type", "mountpoint"):
        if getattr(payload, key) is not None:
            yield Problem(f"{place}.payload.{key}", "does not belong to swap", "Leave it out")
    yield from _fstab_problems(payload, place, checked=0)
    yield from _options_problem(payload, place)


def _fstab_problems(payload: Payload, place: str, *, checked: int) -> Iterator[Problem]:
    """What of the last two fields of fstab(5) is not so; `checked` is the last one here."""
    if payload.fstab_freq:
        key = f"{place}.payload.fstab_freq"
        yield Problem(key, f"is {payload.fstab_freq}", "Allowed there: 0, since nothing dumps it")
    if payload.fstab_passno not in (0, checked):
        key = f"{place}.payload.fstab_passno"
        allowed = " or ".join(str(each) for each in sorted({0, checked}))
        yield Problem(key, f"is {payload.fstab_passno}", f"Allowed there: {allowed}")


def _options_problem(payload: Payload, place: str) -> Iterator[Problem]:
    if payload.fstab_options not in ("", "defaults"):
        key = f"{place}.payload.fstab_options"
        yield Problem(key, f"is {payload.fstab_options}", "Allowed there: defaults")


def _type_problem(partition: Partition, allowed: Sequence[str], place: str) -> Iterator[Problem]:
    if partition.type.lower() not in allowed:
        words = ", ".join(allowed)
        yield Problem(f"{place}.type", f"is {partition.type}", f"Allowed there: {words}")


def _fixed_problems(partition: Partition, payload: Payload, place: str) -> Iterator[Problem]:
    point = payload.mountpoint or ""
    yield from _type_problem(partition, _FIXED_TYPES[point], place)
    if partition.uuid is not None:
        yield _not_kept(f"{place}.uuid")
    labels = _FIXED_LABELS.get(point)
    if labels is not None and payload.label not in (None, *labels):
        key = f"{place}.payload.label"
        yield Problem(key, f"is {payload.label}", f"Allowed there: {labels[0]}")
    if partition.label not in (None, KEYS[point]):
        yield Problem(f"{place}.label", f"is {partition.label}", f"Allowed there: {KEYS[point]}")
    if point != "/boot/efi":
        yield from _options_problem(payload, place)
