import os
import re
import struct
from pathlib import Path

import pytest

from bootc_build.inspection.places import describe, first_difference
from bootc_build.onhost.process import run
from bootc_build.tools.sizes import MIB
from tests.inspection.small_disks import DEPLOYMENT, small_disk

ROOT = 1154 * MIB
STATUS = f"/ostree/deploy/{DEPLOYMENT.replace('/', '/deploy/')}/usr/lib/sysimage/dpkg/status"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_disk(tmp_path_factory.mktemp("disk"))


def ask(disk: Path, request: str) -> str:
    return run(["debugfs", "-R", request, f"{disk}?offset={ROOT}"]).stdout


def test_the_same_files_have_no_difference(disk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    run(["cp", "--sparse=always", str(disk), str(copy)])
    assert first_difference(disk, copy) is None


def test_first_difference_is_exact_across_holes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.touch()
        os.truncate(path, 64 * MIB)
    assert first_difference(one, other) is None
    with other.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", 40 * MIB + 5)
    assert first_difference(one, other) == 40 * MIB + 5
    with one.open("r+b") as file:
        # Written zeros are the same as a hole.
        os.pwrite(file.fileno(), bytes(3 * MIB), 10 * MIB)
    assert first_difference(one, other) == 40 * MIB + 5
    os.truncate(other, 20 * MIB)
    assert first_difference(one, other) == 20 * MIB


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        (5, "the boot code in the first sector"),
        (450, "the protective MBR"),
        (600, "the GPT's header"),
        (1024 + 128 * 2, "entry 3 of the GPT"),
        (-10, "the GPT's second header"),
        (MIB + 5, "partition 1 (bios-boot), no file system, byte 5"),
        (2 * MIB + 5, "partition 2 (esp), FAT, byte 5 of the reserved sectors"),
        (2 * MIB + 40 * 512, "partition 2 (esp), FAT, file allocation table 1"),
        (ROOT + 1024 + 44, "partition 4 (root), ext4, byte 44 of the superblock"),
    ],
)
def test_structures_of_a_disk_are_named(offset: int, said: str, disk: Path) -> None:
    assert describe(disk, offset % disk.stat().st_size) == said


def test_a_files_content_and_inode_are_named(disk: Path) -> None:
    block = re.search(r"\(0\):(\d+)", ask(disk, f"stat {STATUS}"))
    assert block
    place = describe(disk, ROOT + int(block[1]) * 4096)
    assert place == f"partition 4 (root), ext4, content of {STATUS}"
    where = re.search(r"located at block (\d+), offset (0x[0-9a-f]+)", ask(disk, f"imap {STATUS}"))
    assert where
    inode = ROOT + int(where[1]) * 4096 + int(where[2], 16)
    assert describe(disk, inode + 8) == f"partition 4 (root), ext4, byte 8 of the inode of {STATUS}"


def test_a_file_of_the_esp_is_named(disk: Path) -> None:
    shown = run(["mshowfat", "-i", f"{disk}@@{2 * MIB}", "::/EFI/BOOT/grubx64.efi"]).stdout
    found = re.search(r"<(\d+)", shown)
    assert found
    with disk.open("rb") as file:
        sector = os.pread(file.fileno(), 512, 2 * MIB)
    reserved, fats = struct.unpack_from("<HB", sector, 14)
    (length,) = struct.unpack_from("<I", sector, 36)
    first = reserved + fats * length + (int(found[1]) - 2) * sector[13]
    place = describe(disk, 2 * MIB + first * 512)
    assert place == "partition 2 (esp), FAT, content of /EFI/BOOT/grubx64.efi"
