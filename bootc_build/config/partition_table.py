"""osbuild's disk.yaml: the partition table that an image brings along for bootc-image-builder.

Format: osbuild's image-builder, "sources of configuration". Top-level keys that begin with a dot hold YAML anchors.
Its sizes become minimum sizes; whatever else cannot be kept is refused.
"""

from collections.abc import Iterator
from typing import Any, Final

from bootc_build.config.blueprint_layout import LVM_REASON
from bootc_build.config.disk import FILE_SYSTEMS, DiskConfiguration, mount_point_problems
from bootc_build.config.record import (
    ConfigurationError,
    PlainRecord,
    Problem,
    key_path,
    parse_record,
    raise_problems,
)
from bootc_build.config.sizes import BlueprintSize

_TOP: Final = "partition_table.partitions"
_BIOS_BOOT: Final = "21686148-6449-6e6f-744e-656564454649"
_ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_LINUX: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
# What a partition that every disk has may be said to be: its own type, or one that comes to the same.
_FIXED_TYPES: Final = {
    "/": ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", _LINUX),
    "/boot": ("bc13c2ff-59e6-4262-a352-b275fd6f7172", _LINUX),
    "/boot/efi": (_ESP,),
}
_KEYS: Final = {"/": "root", "/boot": "boot", "/boot/efi": "esp"}
_FIXED_KINDS: Final = {"/": FILE_SYSTEMS, "/boot": ("ext4",), "/boot/efi": ("vfat",)}


class _Payload(PlainRecord):
    """What is on a partition."""

    type: str | None = None
    mountpoint: str | None = None
    label: str | None = None
    uuid: str | None = None
    fstab_options: str = ""
    fstab_freq: int = 0
    fstab_passno: int = 0


class _Partition(PlainRecord):
    """A partition."""

    size: BlueprintSize
    type: str = _LINUX
    bootable: bool = False
    label: str | None = None
    uuid: str | None = None
    payload_type: str = ""
    payload: dict[str, Any] | None = None


class _Table(PlainRecord):
    """A partition table."""

    type: str = "gpt"
    uuid: str | None = None
    start_offset: BlueprintSize | None = None
    size: BlueprintSize | None = None
    partitions: tuple[_Partition, ...] = ()


class _Document(PlainRecord):
    """The whole file."""

    mount_configuration: str = "fstab"
    partition_table: _Table


def parse_partition_table(document: dict[str, Any], where: str) -> DiskConfiguration:
    """The configuration that a partition table of osbuild's asks for.

    Args:
        document: the file's content.
        where: the file, for errors.

    Raises:
        ConfigurationError: it is wrong, or asks for what cannot be done; all problems at once.
    """
    kept = {key: value for key, value in document.items() if not key.startswith(".")}
    found = parse_record(_Document, kept, where)
    payloads = _payloads(found.partition_table, where)
    raise_problems(where, _problems(found, payloads))
    translated: dict[str, Any] = {"filesystems": []}
    if found.partition_table.size is not None:
        translated["minimum-size"] = found.partition_table.size
    for partition, payload in zip(found.partition_table.partitions, payloads, strict=True):
        _add(translated, partition, payload)
    return parse_record(DiskConfiguration, translated, where)


def _payloads(table: _Table, where: str) -> list[_Payload]:
    payloads, problems = [], []
    for number, partition in enumerate(table.partitions):
        content = partition.payload or {}
        if partition.payload_type in ("lvm", "luks", "btrfs"):
            content = {}
        try:
            payloads.append(parse_record(_Payload, content, where))
        except ConfigurationError as error:
            place = f"{_TOP}[{number}].payload"
            problems += [
                Problem(f"{place}.{each.path}", each.fact, each.remedy) for each in error.problems
            ]
    raise_problems(where, problems)
    return payloads


def _problems(found: _Document, payloads: list[_Payload]) -> Iterator[Problem]:
    table = found.partition_table
    if found.mount_configuration not in ("none", "fstab", "units"):
        yield Problem(
            "mount_configuration", f"is {found.mount_configuration}", "Allowed: none, fstab, units"
        )
    if table.type != "gpt":
        yield Problem("partition_table.type", f"is {table.type}", "Allowed: gpt")
    for key in ("uuid", "start_offset"):
        if getattr(table, key) is not None:
            yield _not_kept(f"partition_table.{key}")
    points = []
    for number, (partition, payload) in enumerate(zip(table.partitions, payloads, strict=True)):
        place = key_path(("partition_table", "partitions", number))
        yield from _partition_problems(partition, payload, place)
        point = payload.mountpoint
        if point is not None and point not in _KEYS:
            points.append((f"{place}.payload.mountpoint", point))
            if found.mount_configuration == "none":
                yield Problem(
                    "mount_configuration", f"is none, so nothing mounts {point}", "Say fstab"
                )
    yield from mount_point_problems(points)


def _not_kept(place: str) -> Problem:
    return Problem(
        place, "cannot be honoured", "It follows from image and configuration: leave it out"
    )


def _partition_problems(partition: _Partition, payload: _Payload, place: str) -> Iterator[Problem]:
    kind, point = partition.payload_type, payload.mountpoint
    if kind in ("lvm", "luks", "btrfs"):
        reason = LVM_REASON if kind == "lvm" else "Use a file system, and see docs/disk.md"
        yield Problem(f"{place}.payload_type", f"is {kind}, which cannot be honoured", reason)
        return
    if partition.type.lower() == _BIOS_BOOT and not kind:
        return
    if kind not in ("filesystem", "swap"):
        yield Problem(f"{place}.payload_type", f"is '{kind}'", "Allowed: filesystem, swap")
    elif kind == "filesystem" and point is None:
        yield Problem(f"{place}.payload.mountpoint", "is missing")
    if payload.uuid is not None:
        yield _not_kept(f"{place}.payload.uuid")
    if kind == "filesystem" and point is not None:
        allowed = _FIXED_KINDS.get(point, FILE_SYSTEMS)
        if payload.type is not None and payload.type not in allowed:
            words = ", ".join(allowed)
            yield Problem(f"{place}.payload.type", f"is {payload.type}", f"Allowed there: {words}")
    if point in _KEYS:
        yield from _fixed_problems(partition, payload, place)


def _fixed_problems(partition: _Partition, payload: _Payload, place: str) -> Iterator[Problem]:
    allowed = _FIXED_TYPES[payload.mountpoint or ""]
    if partition.type.lower() not in allowed:
        words = ", ".join(allowed)
        yield Problem(f"{place}.type", f"is {partition.type}", f"Allowed there: {words}")
    if partition.uuid is not None:
        yield _not_kept(f"{place}.uuid")
    # The EFI system partition is not mounted on the machine, so how it would be does not matter.
    if payload.mountpoint != "/boot/efi" and payload.fstab_options not in ("", "defaults"):
        yield Problem(
            f"{place}.payload.fstab_options",
            f"is {payload.fstab_options}",
            "Allowed there: defaults",
        )


def _add(translated: dict[str, Any], partition: _Partition, payload: _Payload) -> None:
    if partition.payload_type == "swap":
        translated["swap"] = _said(size=partition.size, label=payload.label)
    elif payload.mountpoint in _KEYS:
        entry = {"minimum-size": partition.size}
        if payload.mountpoint == "/":
            entry |= _said(filesystem=payload.type, label=payload.label)
        translated[_KEYS[payload.mountpoint]] = entry
    elif payload.mountpoint is not None:
        options = [each for each in payload.fstab_options.split(",") if each]
        translated["filesystems"].append(
            _said(mountpoint=payload.mountpoint, size=partition.size, options=options)
            | _said(filesystem=payload.type, label=payload.label)
            | {"partition-type": partition.type}
            | ({"partition-uuid": partition.uuid} if partition.uuid else {})
            | ({"partition-label": partition.label} if partition.label else {})
        )


def _said(**entries: object) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}
