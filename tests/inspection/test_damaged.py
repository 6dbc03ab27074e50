"""What is damaged is said, and does not hide the rest."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.inspection.compare import compare
from bootc_build.inspection.disk import inspect_disk
from bootc_build.inspection.document import document
from bootc_build.inspection.target import inspect
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.tools.sizes import MIB
from tests.inspection.small_disks import small_disk

BOOT, ROOT, ESP = 130 * MIB, 1154 * MIB, 2 * MIB
_FIRST_HEADER = 512
_SUPERBLOCK = 1024


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_disk(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def disk(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    run(["cp", "--sparse=always", str(whole), str(tmp_path / "disk.raw")])
    return tmp_path / "disk.raw"


def overwrite(disk: Path, at: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)


def test_a_whole_disk_has_no_notes(whole: Path) -> None:
    found = inspect_disk(whole)
    assert found.notes == ()
    assert found.deployments
    assert len(found.deployments[0].image_id) == 64


@pytest.mark.parametrize("length", [700 * MIB, 2048 * MIB])
def test_a_disk_that_is_cut_short_is_no_disk_with_one_partition(disk: Path, length: int) -> None:
    os.truncate(disk, length)
    with pytest.raises(UserError, match="cut short") as error:
        inspect_disk(disk)
    assert f"{length} bytes" in error.value.fact
    assert "Copy the file again" in error.value.remedy


def test_a_disk_that_lacks_only_its_end_is_shown_with_a_note(disk: Path) -> None:
    os.truncate(disk, disk.stat().st_size - 512)
    found = inspect_disk(disk)
    assert len(found.partitions) == 4
    assert any("cut short" in note for note in found.notes)


@pytest.mark.parametrize(("at", "which"), [(_FIRST_HEADER, "first"), (-512, "second")])
def test_one_damaged_copy_of_the_table_is_told(disk: Path, at: int, which: str) -> None:
    overwrite(disk, at, bytes(512))
    found = inspect_disk(disk)
    assert len(found.partitions) == 4
    assert any(f"The {which} copy of the partition table" in note for note in found.notes)


def test_a_table_that_is_gone_is_not_one_protective_partition(disk: Path) -> None:
    overwrite(disk, _FIRST_HEADER, bytes(33 * 512))
    overwrite(disk, -33 * 512, bytes(33 * 512))
    with pytest.raises(UserError, match="that its first sector announces is not there"):
        inspect_disk(disk)


def _bad_descriptors(disk: Path) -> None:
    overwrite(disk, BOOT + 4096, b"\xa5" * 4096 * 20)


def _bad_superblock(disk: Path) -> None:
    overwrite(disk, BOOT + _SUPERBLOCK + 4, b"\xa5" * 50)


@pytest.mark.parametrize("damage", [_bad_descriptors, _bad_superblock])
def test_a_damaged_boot_does_not_hide_the_root(disk: Path, damage: Callable[[Path], None]) -> None:
    damage(disk)
    found = inspect_disk(disk)
    assert any("ext4 of partition 3 is not read" in note for note in found.notes)
    assert found.boot_entries == ()
    assert found.deployments[0].contents.packages == {"a": "1.0"}
    assert found.partitions[3].file_system is not None
    assert found.partitions[3].file_system.used_bytes


def test_a_damaged_esp_does_not_hide_the_root(disk: Path) -> None:
    overwrite(disk, ESP + 32 * 512, b"\xa5" * 512 * 3000)
    found = inspect_disk(disk)
    assert any("vfat of partition 2 is not read" in note for note in found.notes)
    assert found.deployments
    assert found.boot_entries


def test_a_superblock_that_does_not_match_its_sum_is_told(disk: Path) -> None:
    overwrite(disk, ROOT + _SUPERBLOCK + 0x200, b"\xa5" * 64)
    found = inspect_disk(disk)
    assert any("ext4 of partition 4 is damaged: dumpe2fs: Superblock" in n for n in found.notes)
    assert found.deployments


def test_a_root_without_a_file_system_is_told(disk: Path) -> None:
    overwrite(disk, ROOT, bytes(8192))
    found = inspect_disk(disk)
    assert "Partition 4 has nothing in it that is known here." in found.notes
    assert found.deployments == ()


def test_a_folder_that_is_damaged_is_told(disk: Path) -> None:
    said = run(["debugfs", "-R", "blocks /ostree", f"{disk}?offset={ROOT}"]).stdout
    overwrite(disk, ROOT + int(said.split()[0]) * 4096, b"\xa5" * 4096)
    found = inspect_disk(disk)
    assert any("partition 4 is damaged, and what is said of it may be" in n for n in found.notes)


def test_a_journal_that_has_more_is_told(disk: Path) -> None:
    # As a machine leaves it that was cut off.
    run(["debugfs", "-w", "-R", "feature needs_recovery", f"{disk}?offset={ROOT}"])
    found = inspect_disk(disk)
    assert any("ext4 of partition 4 is in use or was not unmounted" in n for n in found.notes)
    assert found.deployments


def test_damage_is_no_sameness(whole: Path, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overwrite(disk, -512, bytes(512))
    assert compare(document(inspect_disk(whole)), document(inspect_disk(disk))) == ()
    assert main(["diff", "--exit-code", str(whole), str(disk)]) == 1
    assert "Note on the new one: The second copy" in capsys.readouterr().out
    assert main(["diff", "--format", "json", str(disk), str(whole)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["version"], said["kind"], said["differences"]) == (1, "disk", [])
    assert [note["of"] for note in said["notes"]] == ["old"]


def test_a_fixed_vhd_is_one(whole: Path, disk: Path) -> None:
    run(
        [
            "qemu-img",
            "convert",
            "-O",
            "vpc",
            "-o",
            "subformat=fixed,force_size",
            str(whole),
            str(disk),
        ]
    )
    found, raw = inspect_disk(disk), inspect_disk(whole)
    assert (found.format, found.disk_bytes, found.notes) == ("vhd", raw.disk_bytes, ())
    assert compare(document(raw), document(found)) == ()


@pytest.mark.parametrize("kind", ["qcow2", "vmdk"])
def test_a_file_that_is_cut_short_is_said_to_be(whole: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"disk.{kind}"
    options = ["-o", "subformat=streamOptimized"] if kind == "vmdk" else ["-c"]
    run(["qemu-img", "convert", "-O", kind, *options, str(whole), str(file)])
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(UserError, match="damaged or cut short") as error:
        inspect_disk(file)
    assert "Copy the file again" in error.value.remedy


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe, empty = tmp_path / "pipe.raw", tmp_path / "empty.raw"
    os.mkfifo(pipe)
    empty.touch()
    for path, said in (
        (pipe, "neither a file nor a block device"),
        (Path("/dev/zero"), "neither a file nor a block device"),
        (tmp_path, "is a folder"),
        (empty, "is empty"),
        (tmp_path / "absent", "No such file"),
        (Path(), "is a folder"),
    ):
        with pytest.raises(UserError, match=said) as error:
            inspect(str(path))
        assert error.value.remedy
