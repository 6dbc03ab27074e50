"""The explorer's own test: what is done right passes, and each way of doing it wrong is caught."""

import shutil
from pathlib import Path

import pytest

from bootc_build.onhost.host.boot_count import format_block
from bootc_build.onhost.process import run
from bootc_build.testing.crash_points.explore import (
    Exploration,
    Transaction,
    explore,
    look_at_disk,
)
from bootc_build.tools.e2fsprogs import BLOCK
from tests.crash_points.small_disk import (
    Recorder,
    SmallDisk,
    make_disk,
    new_kernel,
    new_loader,
    swap,
    swap_in_two,
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> SmallDisk:
    return make_disk(tmp_path_factory.mktemp("small"))


@pytest.fixture
def recorder(disk: SmallDisk, tmp_path: Path) -> Recorder:
    return Recorder(disk, tmp_path)


def _explore(recorder: Recorder, stop: int | None = None) -> Exploration:
    log = recorder.log()
    end = len(log.entries) if stop is None else stop
    return explore(
        recorder.disk.path,
        log,
        Transaction("test", 0, end),
        samples=0,
        seed=0,
        scratch=recorder.folder,
    )


def _problems(found: Exploration) -> str:
    verdicts = [state.verdict for state in found.states]
    return "\n".join(text for one in verdicts for text in (*one.unbootable, *one.violations))


def test_a_transaction_in_the_right_order_leads_to_old_or_new(recorder: Recorder) -> None:
    disk = recorder.disk
    recorder.step(disk.boot, new_kernel(disk))
    recorder.step(disk.boot, new_loader(disk))
    recorder.step(disk.boot, swap(disk))
    found = _explore(recorder)
    assert (found.points, found.contents) == (4, 4)
    assert _problems(found) == ""
    assert (found.unbootable, found.violations) == (0, 0)
    assert [state.verdict.boots for state in found.states] == ["old", "new"]


def test_a_menu_that_is_not_swapped_at_once_is_caught(recorder: Recorder) -> None:
    disk = recorder.disk
    first, second = swap_in_two(disk)
    recorder.step(disk.boot, new_kernel(disk))
    recorder.step(disk.boot, new_loader(disk))
    recorder.step(disk.boot, first)
    recorder.step(disk.boot, second)
    found = _explore(recorder)
    assert found.unbootable > 1  # in parts of its epochs, too
    assert "GRUB finds no menu" in _problems(found)


def test_a_kernel_that_is_flushed_after_the_menu_is_caught(recorder: Recorder) -> None:
    disk = recorder.disk
    recorder.step(disk.boot, new_loader(disk))
    recorder.step(disk.boot, swap(disk))
    recorder.step(disk.boot, new_kernel(disk))
    found = _explore(recorder)
    assert found.unbootable == 1
    assert "is not there" in _problems(found)


def test_a_menu_that_is_written_in_place_is_caught(recorder: Recorder, tmp_path: Path) -> None:
    disk = recorder.disk
    half = tmp_path / "half"
    menu = (disk.after / "loader/grub.cfg").read_bytes()
    half.write_bytes(menu[: menu.index(b"\tinitrd") + 3])
    place = f"/{(disk.path.parent / 'boot1/loader').readlink()}/grub.cfg"
    whole = disk.path.parent / "boot1/loader/grub.cfg"
    recorder.step(disk.boot, [f"rm {place}", f"write {half} {place}"])
    recorder.step(disk.boot, [f"rm {place}", f"write {whole} {place}"])
    found = _explore(recorder)
    assert found.unbootable > 1  # in parts of its epochs, too
    assert "GRUB cannot read its menu" in _problems(found)


def test_a_torn_count_of_boots_is_caught_and_still_boots(
    recorder: Recorder, tmp_path: Path
) -> None:
    disk = recorder.disk
    good = format_block({"bootc_good": f"{disk.commits[0]}.0"})
    for name, content in (("whole", good), ("torn", good[:60] + "\0" * 964)):
        (tmp_path / name).write_text(content)
    for name in ("whole", "torn", "whole"):
        recorder.step(disk.boot, ["rm /bootc.env", f"write {tmp_path / name} /bootc.env"])
    found = _explore(recorder)
    assert (found.unbootable, found.violations) == (0, 1)
    assert "bootc.env is damaged" in _problems(found)


def _block_of(disk: SmallDisk, path: str) -> int:
    said = run(["debugfs", "-R", f'blocks "{path}"', disk.root.device]).stdout
    return int(said.split()[0])


def _deployment(disk: SmallDisk) -> str:
    return f"/ostree/deploy/default/deploy/{disk.commits[0]}.0"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/usr/lib/version", ".file is damaged"),
        ("/usr/lib/os-release", ".file is damaged"),
    ],
)
def test_a_damaged_object_is_caught(recorder: Recorder, path: str, complaint: str) -> None:
    block = _block_of(recorder.disk, _deployment(recorder.disk) + path)
    with recorder.disk.path.open("rb") as file:
        file.seek(recorder.disk.root.offset + block * BLOCK)
        good = file.read(BLOCK)
    recorder.overwrite(recorder.disk.root, block, b"x" + good[1:])
    recorder.overwrite(recorder.disk.root, block, good)
    found = _explore(recorder)
    assert found.unbootable == 1
    assert complaint in _problems(found)


def test_a_damaged_object_is_seen_on_a_disk_without_a_log(disk: SmallDisk, tmp_path: Path) -> None:
    block = _block_of(disk, f"{_deployment(disk)}/usr/lib/version")
    copy = tmp_path / "disk.raw"
    shutil.copy(disk.path, copy)
    [good] = look_at_disk(copy, tmp_path).started
    assert good is not None
    assert good.problems == ()
    with copy.open("r+b") as file:
        file.seek(disk.root.offset + block * BLOCK)
        file.write(b"x")
    [bad] = look_at_disk(copy, tmp_path).started
    assert bad is not None
    assert [problem for problem in bad.problems if ".file is damaged" in problem]


def test_a_lost_object_is_caught(recorder: Recorder) -> None:
    disk = recorder.disk
    repo = disk.path.parent / "sysroot/ostree/repo/objects"
    version = disk.path.parent / f"sysroot{_deployment(disk)}/usr/lib/version"
    inode_number = version.stat().st_ino
    [found_at] = [path for path in repo.rglob("*.file") if path.lstat().st_ino == inode_number]
    name = f"/ostree/repo/objects/{found_at.parent.name}/{found_at.name}"
    inode = f'"{_deployment(disk)}/usr/lib/version"'
    recorder.step(disk.root, [f"unlink {name}"])
    recorder.step(disk.root, [f"ln {inode} {name}"])
    found = _explore(recorder)
    assert found.unbootable == 1
    assert "is missing" in _problems(found)


def test_a_lost_file_of_etc_is_caught(recorder: Recorder, tmp_path: Path) -> None:
    disk = recorder.disk
    etc = f"{_deployment(disk)}/etc/colour"
    empty, whole = tmp_path / "empty", tmp_path / "whole"
    empty.touch()
    whole.write_text("image\n")
    recorder.step(disk.root, [f"rm {etc}"])
    recorder.step(disk.root, [f"write {empty} {etc}"])
    recorder.step(disk.root, [f"rm {etc}", f"write {whole} {etc}"])
    found = _explore(recorder)
    assert found.violations == 2
    assert "/etc/colour is lost" in _problems(found)
    assert "/etc/colour is neither the old nor the new one" in _problems(found)


def test_looking_leaves_no_trace(recorder: Recorder) -> None:
    disk = recorder.disk
    recorder.step(disk.boot, new_kernel(disk))
    before = disk.path.read_bytes()
    _explore(recorder)
    assert disk.path.read_bytes() == before
    assert {path.name for path in recorder.folder.iterdir()} <= {"changed.raw", "writes.log"}


def test_a_state_beyond_mending_does_not_spoil_the_next(recorder: Recorder) -> None:
    disk = recorder.disk
    with disk.path.open("rb") as file:
        # The inode table's first block: root directory and journal.
        said = run(["dumpe2fs", disk.boot.device]).stdout
        block = int(said.partition("Inode table at ")[2].partition("-")[0])
        file.seek(disk.boot.offset + block * BLOCK)
        good = file.read(BLOCK)
    recorder.overwrite(disk.boot, block, bytes(BLOCK))
    recorder.overwrite(disk.boot, block, good)
    found = _explore(recorder)
    assert found.unbootable == 1
    assert [state.verdict.boots for state in found.states] == ["old", "nothing"]
