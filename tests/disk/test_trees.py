import os
from pathlib import Path

from bootc_build.disk import trees
from tests.disk.installed_trees import make_installed_tree

TIMESTAMP = 1_700_000_000


def test_mount_points_can_be_entered_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        trees.make_folder(tmp_path / "root")
        apart = trees.split(tmp_path / "root")
    finally:
        os.umask(before)
    for folder in (apart.root, apart.boot, apart.esp, apart.root / "boot", apart.boot / "efi"):
        assert folder.stat().st_mode & 0o777 == 0o755


def test_boot_and_esp_are_taken_out_of_the_root(tmp_path: Path) -> None:
    make_installed_tree(tmp_path / "root")
    apart = trees.split(tmp_path / "root")
    assert list((apart.root / "boot").iterdir()) == []
    assert list((apart.boot / "efi").iterdir()) == []
    assert (apart.esp / "EFI/BOOT/BOOTX64.EFI").is_file()
    assert (apart.boot / "loader/entries").is_dir()
    assert apart.deployment_roots() == [apart.root / "ostree/deploy/default/deploy/0123.0"]


def test_later_times_are_turned_back_and_earlier_ones_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_installed_tree(root)
    old, new = root / "old", root / "new"
    for path, time in ((old, 5), (new, TIMESTAMP + 5)):
        path.write_text("x")
        os.utime(path, (time, time))
    (root / "dangling").symlink_to("nowhere")
    trees.turn_back_times(root, TIMESTAMP)
    assert old.stat().st_mtime == 5
    assert new.stat().st_mtime == TIMESTAMP
    assert (root / "dangling").lstat().st_mtime == TIMESTAMP
    assert root.stat().st_mtime == TIMESTAMP


def test_hard_links_count_once_and_holes_do_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").write_bytes(b"x" * 1_000_000)
    (root / "again").hardlink_to(root / "data")
    with (root / "hole").open("wb") as file:
        file.truncate(50_000_000)
    measured = trees.settle(trees.split(root), TIMESTAMP).contents.root
    assert 1_000_000 <= measured < 1_100_000
