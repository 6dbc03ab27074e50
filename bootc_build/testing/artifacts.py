"""What the machines of a test leave behind: which files, where, and what is asked of a machine when it fails."""

import gzip
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootc_build.onhost.errors import UserError
from bootc_build.testing.journal import format_journal, parse_export

if TYPE_CHECKING:
    from bootc_build.vm.machine import Machine
    from bootc_build.vm.record import MachineRecord

_JOURNAL_SECONDS = 60.0
_JOURNAL_LINES = 5000
_LONGEST_NAME = 120
# What a file is called -> what follows the machine's name in its file name.
_SUFFIXES = {
    "console": ".console.log",
    "recording": ".cast",
    "monitor": ".qmp.jsonl",
    "journal": ".journal.txt",
    "journal export": ".journal.export.gz",
    "screenshot": ".png",
}


def folder_name(nodeid: str) -> str:
    """The name of a test's folder; of two tests never the same, and never too long for a file system."""
    name = re.sub(r"[^\w.=-]+", "_", nodeid).strip("_")
    _, _, parameters = nodeid.partition("[")
    if len(name) > _LONGEST_NAME or re.search(r"[^\w.=-]", parameters.removesuffix("]")):
        digest = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name


@dataclass(frozen=True)
class MachineArtifacts:
    """One machine's files, and what the machine was.

    Args:
        folder: absolute path of the files' folder.
        name: of the machine within it; file names begin with it.
        system: the image or disk that it was made of.
        shown: what else to tell of it, such as "bios, 1024 MiB, 2 processors, tcg".
    """

    folder: str
    name: str
    system: str
    shown: str

    @classmethod
    def of(cls, machine: "Machine") -> "MachineArtifacts":
        """Those of a machine that a fixture made."""
        spec = machine.spec
        processors = "1 processor" if spec.cpus == 1 else f"{spec.cpus} processors"
        return cls(
            folder=str(machine.log_path.parent),
            name=machine.log_path.name.removesuffix(_SUFFIXES["console"]),
            system=machine.record.title if machine.record else spec.name,
            shown=f"{spec.firmware}, {spec.memory_mib} MiB, {processors}, {machine.acceleration.accelerator}",
        )

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> "MachineArtifacts":
        """What `entry` gave, after its way through a test report."""
        return cls(**{key: str(value) for key, value in entry.items()})

    def entry(self) -> dict[str, str]:
        """Plain text only, for a test report that travels between processes."""
        return asdict(self)

    def path(self, what: str) -> Path:
        """Where a file is or would be.

        Args:
            what: "console", "recording", "monitor", "journal", "journal export" or "screenshot".
        """
        return Path(self.folder, self.name + _SUFFIXES[what])

    def files(self) -> Iterator[tuple[str, Path]]:
        """The files that are there."""
        for what in _SUFFIXES:
            if (path := self.path(what)).is_file():
                yield what, path


def open_record(folder: Path, name: str, system: str) -> "MachineRecord":
    """The record of a new machine."""
    from bootc_build.vm.record import MachineRecord  # noqa: PLC0415 - not for runs without machines

    artifacts = MachineArtifacts(str(folder), name, system, "")
    return MachineRecord(artifacts.path("recording"), artifacts.path("monitor"), title=system)


def console_log(folder: Path, name: str) -> Path:
    """Where the console log of a new machine goes."""
    return folder / (name + _SUFFIXES["console"])


def save_last_state(machine: "Machine") -> MachineArtifacts:
    """Photograph the screen of a machine and fetch its journal, as far as it is still able to.

    A machine in trouble refuses at once; one that hangs takes the journal's time.
    """
    artifacts = MachineArtifacts.of(machine)
    with suppress(UserError):
        machine.screenshot(artifacts.path("screenshot"))
    with suppress(UserError):
        _save_journal(machine, artifacts)
    return artifacts


def remove_folder(folder: Path) -> None:
    """Forget what a test left behind."""
    shutil.rmtree(folder, ignore_errors=True)


def _save_journal(machine: "Machine", artifacts: MachineArtifacts) -> None:
    # Compressed on its way: the export has thirty fields a line, and a serial line is slow.
    export = machine.execute(
        f"set -o pipefail; journalctl --no-pager -b -n {_JOURNAL_LINES} -o export | gzip -c",
        seconds=_JOURNAL_SECONDS,
    )
    if export.status == 0:
        artifacts.path("journal export").write_bytes(export.stdout)
        text = format_journal(parse_export(gzip.decompress(export.stdout)))
    else:  # A guest without gzip.
        text = machine.journal(seconds=_JOURNAL_SECONDS)
    artifacts.path("journal").write_text(text, errors="backslashreplace")
