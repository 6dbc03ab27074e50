"""sfdisk: GUID partition tables in plain files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.process import run


@dataclass(frozen=True)
class GptEntry:
    """One line of the table; start and length in 512-byte sectors."""

    number: int
    start: int
    sectors: int
    type_guid: UUID
    guid: UUID
    name: str

    def line(self) -> str:
        """As sfdisk's script language has it."""
        return (
            f"{self.number} : start={self.start}, size={self.sectors}, type={_upper(self.type_guid)}, "
            f'uuid={_upper(self.guid)}, name="{self.name}"'
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
    )


def _upper(guid: UUID) -> str:
    return str(guid).upper()
