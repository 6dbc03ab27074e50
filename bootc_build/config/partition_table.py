"""osbuild's disk.yaml: the partition table that an image brings along for bootc-image-builder.

Format: osbuild's image-builder, "sources of configuration". Top-level keys that begin with a dot hold YAML anchors.
Its sizes become minimum sizes; whatever else cannot be kept is refused. Id, size and flag of the BIOS boot
partition are taken, since they mean nothing.
"""

from typing import Any, Final

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.partition_table_problems import table_problems
from bootc_build.config.partition_table_records import (
    BIOS_BOOT,
    KEYS,
    TOP,
    Document,
    Partition,
    Payload,
    Table,
)
from bootc_build.config.record import ConfigurationError, Problem, parse_record, raise_problems
from bootc_build.config.source import ConfigurationSource


def parse_partition_table(
    document: dict[str, Any], where: str
) -> tuple[DiskConfiguration, ConfigurationSource]:
    """The configuration that a partition table of osbuild's asks for.

    Args:
        document: the file's content.
        where: the file, for errors.

    Raises:
        ConfigurationError: it is wrong, or asks for what cannot be done; all problems at once.
    """
    kept = {key: value for key, value in document.items() if not key.startswith(".")}
    found = parse_record(Document, kept, where)
    payloads = _payloads(found.partition_table, where)
    raise_problems(where, table_problems(found, payloads))
    translated: dict[str, Any] = {"filesystems": []}
    places = {"minimum-size": "partition_table.size", "filesystems": TOP}
    if found.partition_table.size is not None:
        translated["minimum-size"] = found.partition_table.size
    pairs = zip(found.partition_table.partitions, payloads, strict=True)
    for number, (partition, payload) in enumerate(pairs):
        key = _add(translated, partition, payload)
        place = f"{TOP}[{number}]"
        places[key] = place
        places |= {f"{key}.{ours}": f"{place}.{theirs}" for ours, theirs in _NAMES.items()}
    return disk_configuration(translated, where, places), ConfigurationSource(where, places)


def _payloads(table: Table, where: str) -> list[Payload]:
    payloads, problems = [], []
    for number, partition in enumerate(table.partitions):
        content = partition.payload or {}
        if partition.payload_type in ("lvm", "luks", "btrfs"):
            content = {}
        try:
            payloads.append(parse_record(Payload, content, where))
        except ConfigurationError as error:
            place = f"{TOP}[{number}].payload"
            problems += [
                Problem(f"{place}.{each.path}", each.fact, each.remedy) for each in error.problems
            ]
    raise_problems(where, problems)
    return payloads


# disk.yaml's keys of a file system, and those of a partition.
_NAMES: Final = {
    "minimum-size": "size",
    "partition-type": "type",
    "partition-uuid": "uuid",
    "partition-label": "label",
    "filesystem": "payload.type",
    "mountpoint": "payload.mountpoint",
    "label": "payload.label",
    "options": "payload.fstab_options",
}


def _add(translated: dict[str, Any], partition: Partition, payload: Payload) -> str:
    """Add what a partition asks for; says at which key."""
    if partition.payload_type == "swap":
        translated["swap"] = _said(size=partition.size, label=payload.label)
        return "swap"
    if payload.mountpoint in KEYS:
        entry = {"minimum-size": partition.size}
        if payload.mountpoint == "/":
            entry |= _said(filesystem=payload.type, label=payload.label)
        key = KEYS[payload.mountpoint]
        translated[key] = entry
        return key
    extras = translated["filesystems"]
    if payload.mountpoint is not None:
        options = [each for each in payload.fstab_options.split(",") if each]
        extras.append(
            _said(mountpoint=payload.mountpoint, size=partition.size, options=options)
            | _said(filesystem=payload.type, label=payload.label)
            | {"partition-type": partition.type}
            | ({"partition-uuid": partition.uuid} if partition.uuid else {})
            | ({"partition-label": partition.label} if partition.label else {})
        )
        return f"filesystems[{len(extras) - 1}]"
    return BIOS_BOOT


def _said(**entries: object) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}
