"""What is written is what LVM's own programs read."""

import re
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.disk import lvm
from bootc_build.disk.lvm import EXTENT, Volume, VolumeGroup, write_group
from bootc_build.onhost.process import MissingProgramError, find_program
from bootc_build.tools.sizes import MIB

START = 3 * MIB
SIZE = 201 * MIB
GROUP = VolumeGroup(
    "vg-1",
    UUID(int=1),
    UUID(int=2),
    SIZE,
    [Volume("root", UUID(int=3), 0, 20), Volume("data", UUID(int=4), 20, 10)],
    1_700_000_000,
)


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """What is in the partition, after the group was written into a disk."""
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(START + SIZE)
    write_group(GROUP, disk, START)
    content = disk.read_bytes()
    assert not any(content[:START])
    (tmp_path / "partition").write_bytes(content[START:])
    return tmp_path / "partition"


def pvck(*arguments: str) -> str:
    try:
        program = find_program("pvck")
    except MissingProgramError:
        pytest.skip("lvm2 is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_pvck_finds_label_areas_and_sums_right(partition: Path) -> None:
    said = pvck("--dump", "headers", str(partition))
    assert "CHECK" not in said
    assert "invalid" not in said.lower()
    assert f"pv_header.device_size {SIZE}" in said
    assert re.search(r"metadata text at 4608 crc 0x[0-9a-f]{8} # vgname vg-1 seqno 1", said)


def test_pvck_reads_the_description(partition: Path) -> None:
    said = pvck("--dump", "metadata", str(partition))
    assert f"pe_count = {(SIZE - MIB) // EXTENT}" in said
    assert re.findall(r'"pv0", (\d+)', said) == ["0", "20"]
    assert re.findall(r"^(\S+) \{\nid", said, re.MULTILINE) == ["vg-1", "pv0", "root", "data"]


def test_the_same_group_is_the_same_bytes(partition: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    with again.open("wb") as file:
        file.truncate(SIZE)
    write_group(GROUP, again, 0)
    assert again.read_bytes() == partition.read_bytes()


def test_ids_are_grouped_as_lvm_writes_them() -> None:
    written = lvm.lvm_id(UUID("0123456789abcdef0123456789abcdef"))
    assert written == "012345-6789-abcd-ef01-2345-6789-abcdef"
