"""sfdisk: GUID partition tables in plain files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.process import run


@dataclass(frozen=True)
class GptEntry:
    """One line of the table; start and length in 512-byte sectors, attributes as bit numbers."""

    number: int
    start: int
    sectors: int
    type_guid: UUID
    guid: UUID
    name: str
    attributes: tuple[int, ...] = ()

    def line(self) -> str:
        """As sfdisk's script language has it."""
        return (
            f"{self.number} : start={self.start}, size={self.sectors}, type={_upper(self.type_guid)}, "
            f'uuid={_upper(self.guid)}, name="{self.name}"'
            + (f', attrs="GUID:{",".join(map(str, self.attributes))}"' if self.attributes else "")
        )


def write_gpt(disk: Path, disk_guid: UUID, entries: Sequence[GptEntry]) -> None:
    """Write a partition table over whatever the file's first and last sectors have.

    Raises:
        MissingProgramError, CommandError.
    """
    script = ["label: gpt", f"label-id: {_upper(disk_guid)}", "unit: sectors", "sector-size: 512"]
    script += [entry.line() for entry in entries]
    run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)],
        input_text="\n".join(script) + "\n",
        synced=False,
    )


@dataclass(frozen=True)
class ListedPartition:
    """One partition as a table has it; start and size in bytes. GPT has names and ids, DOS tables have not."""

    number: int
    start: int
    size: int
    type_id: str
    guid: str
    name: str


@dataclass(frozen=True)
class PartitionTable:
    """A partition table: its kind ("gpt", "dos"), its id, and its partitions by number."""

    kind: str
    identifier: str
    partitions: tuple[ListedPartition, ...]


def read_table(disk: Path) -> PartitionTable | None:
    """The partition table of a disk file; None where it has none.

    Raises:
        MissingProgramError.
    """
    done = run(["sfdisk", "--json", str(disk)], check=False)
    if done.status != 0:
        return None
    table = json.loads(done.stdout)["partitiontable"]
    sector = int(table.get("sectorsize", 512))
    found = [
        ListedPartition(
            number=int(part["node"].removeprefix(table["device"]).lstrip("p")),
            start=part["start"] * sector,
            size=part["size"] * sector,
            type_id=part["type"].lower(),
            guid=part.get("uuid", "").lower(),
            name=part.get("name", ""),
        )
        for part in table.get("partitions", ())
    ]
    by_number = tuple(sorted(found, key=lambda part: part.number))
    return PartitionTable(table["label"], table.get("id", "").lower(), by_number)


def _upper(guid: UUID) -> str:
    return str(guid).upper()
