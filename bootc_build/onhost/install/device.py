"""Facts about mounts, file systems and disks, from /proc, /sys, blkid and sfdisk.

Sources of the formats: proc(5) for mountinfo, sfdisk(8) for ``--json``, the GPT registry for types.
"""

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError

BIOS_BOOT_TYPE: Final = "21686148-6449-6e6f-744e-656564454649"
ESP_TYPE: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_MBR_ESP_TYPE: Final = "ef"
_SECTOR: Final = 512
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
# Places of fields from the line's beginning, then from the dash.
_NUMBER, _ROOT, _POINT = 2, 3, 4
_TYPE, _SOURCE, _OPTIONS = 1, 2, 3


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: where, of what type, from which device (``major:minor``), with which options.

    ``root`` is the directory of the file system that is seen there: ``/`` unless it is a bind mount or a
    subvolume.
    """

    point: str
    root: str
    fs_type: str
    source: str
    number: str
    options: tuple[str, ...]

    @property
    def subvolume(self) -> str | None:
        """The subvolume that is mounted, where the file system has them."""
        found = (each for each in self.options if each.startswith("subvol="))
        return next((each.partition("=")[2] for each in found), None)

    @property
    def is_whole(self) -> bool:
        """Whether it is a file system (or a subvolume) on a device, and not a bind mount of a directory."""
        return self.root == (self.subvolume or "/") and self.source.startswith("/dev/")


@dataclass(frozen=True)
class Partition:
    """A partition; start and length in 512-byte sectors, type as GPT's or the MBR's (``ef``), lower case."""

    node: Path
    start: int
    sectors: int
    kind: str


@dataclass(frozen=True)
class Table:
    """A disk's partition table: ``gpt`` or ``dos``."""

    label: str
    partitions: tuple[Partition, ...]

    def bios_room(self) -> tuple[int, int] | None:
        """First sector and bytes of the place for GRUB's core image, if the disk has one."""
        for partition in self.partitions:
            if partition.kind == BIOS_BOOT_TYPE:
                return partition.start, partition.sectors * _SECTOR
        if self.label == "dos" and self.partitions:
            first = min(partition.start for partition in self.partitions)
            return 1, (first - 1) * _SECTOR
        return None

    def esp(self) -> Partition | None:
        """The EFI system partition, if the disk has one."""
        kinds = (ESP_TYPE, _MBR_ESP_TYPE)
        return next((each for each in self.partitions if each.kind in kinds), None)


def parse_mountinfo(text: str) -> list[Mount]:
    """Read text in the form of /proc/self/mountinfo."""
    mounts = []
    for line in text.splitlines():
        fields = [_OCTAL.sub(lambda found: chr(int(found[1], 8)), each) for each in line.split(" ")]
        dash = fields.index("-")
        options = (*fields[_POINT + 1].split(","), *fields[dash + _OPTIONS].split(","))
        mounts.append(
            Mount(
                point=fields[_POINT],
                root=fields[_ROOT],
                fs_type=fields[dash + _TYPE],
                source=fields[dash + _SOURCE],
                number=fields[_NUMBER],
                options=options,
            )
        )
    return mounts


def mounts() -> list[Mount]:
    """What is mounted for this process."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def mount_of(path: Path, table: Sequence[Mount] | None = None) -> Mount | None:
    """The mount whose mount point is exactly ``path``; the last one hides those below it."""
    wanted = os.path.realpath(path)
    found = [each for each in (mounts() if table is None else table) if each.point == wanted]
    return found[-1] if found else None


def uuid_of(device: str) -> str:
    """UUID of the file system on a device.

    Raises:
        UserError: it has none.
    """
    done = process.run(
        ["blkid", "--cache-file", "/dev/null", "--match-tag", "UUID", "--output", "value", device],
        check=False,
    )
    uuid = done.stdout.strip()
    if not uuid:
        raise UserError(
            f"The file system on {device} has no UUID.",
            "Name it with --root-mount-spec (or --boot-mount-spec) as UUID=...",
        )
    return uuid


def is_block_device(path: Path) -> bool:
    """Whether there is a block device at a path."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def partition_table(disk: Path) -> Table | None:
    """A disk's partition table, or None where it has none.

    Raises:
        MissingProgramError: there is no sfdisk.
    """
    done = process.run(["sfdisk", "--json", str(disk)], check=False)
    if done.status != 0:
        return None
    table = json.loads(done.stdout)["partitiontable"]
    factor = int(table.get("sectorsize", _SECTOR)) // _SECTOR
    return Table(
        str(table["label"]),
        tuple(
            Partition(
                Path(each["node"]),
                int(each["start"]) * factor,
                int(each["size"]) * factor,
                str(each["type"]).lower(),
            )
            for each in table.get("partitions", ())
        ),
    )


def in_use(disk: Path) -> list[str]:
    """Mount points, here or in the first process's view, of a disk and its partitions."""
    number = disk.stat().st_rdev
    numbers = {f"{os.major(number)}:{os.minor(number)}"}
    system = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    numbers |= {path.read_text().strip() for path in system.glob("*/dev")}
    names = {str(disk), *(f"/dev/{path.parent.name}" for path in system.glob("*/partition"))}
    points: dict[str, None] = {}
    for process_name in ("self", "1"):
        try:
            text = Path(f"/proc/{process_name}/mountinfo").read_text()
        except OSError:
            continue
        for each in parse_mountinfo(text):
            if each.number in numbers or each.source in names:
                points[each.point] = None
    return list(points)
