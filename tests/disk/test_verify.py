import os
import shutil
from pathlib import Path

import pytest

from bootc_build.disk.deliver import WrittenDisk
from bootc_build.disk.formats import DiskType
from bootc_build.disk.verify import NotReproducibleError, compare
from bootc_build.onhost.process import run
from bootc_build.tools.sizes import MIB
from tests.inspection.small_disks import small_disk

ROOT = 1154 * MIB


def written(kind: DiskType, path: Path) -> list[WrittenDisk]:
    return [WrittenDisk(kind, path, path.stat().st_size, 0, path.stat().st_size)]


def test_builds_that_are_the_same_pass_and_one_that_is_not_is_named(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "one")
    other = small_disk(tmp_path / "other")
    compare(written(DiskType.RAW, disk), written(DiskType.RAW, other))
    with other.open("r+b") as file:
        # The UUID in the superblock of the root file system.
        os.pwrite(file.fileno(), b"other uuid", ROOT + 1024 + 0x68)
    with pytest.raises(NotReproducibleError, match=r"ext4, byte 104 of the superblock"):
        compare(written(DiskType.RAW, disk), written(DiskType.RAW, other))


def test_what_differs_inside_a_qcow2_is_named_too(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "one")
    first, second = tmp_path / "first.qcow2", tmp_path / "second.qcow2"
    run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(first)])
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", 1024 + 4)
    run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(second)])
    with pytest.raises(NotReproducibleError, match="at byte 1028, in entry 1 of the GPT"):
        compare(written(DiskType.QCOW2, first), written(DiskType.QCOW2, second))
    shutil.copyfile(first, second)
    with second.open("ab") as file:
        file.write(bytes(65536))
    with pytest.raises(NotReproducibleError, match="the file's own structure"):
        compare(written(DiskType.QCOW2, first), written(DiskType.QCOW2, second))
