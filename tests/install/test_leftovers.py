"""What is removed of a system that was taken over."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.install.leftovers import STAMP, remove_old_system, request_removal


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A root with an old system, and a new one in it."""
    root = tmp_path / "sysroot"
    for path in (
        "usr/bin/tool",
        "usr/share/doc/x",
        "var/lib/dpkg/status",
        "var/lib/mysql/data",
        "var/cache/apt/x",
        "etc/passwd",
        "home/me/letter",
        "opt/app/x",
        "boot/ostree/kernel",
        "ostree/repo/config",
        "ostree/deploy/default/var/lib/dpkg/status",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "bin").symlink_to("usr/bin")
    (root / "lib64").symlink_to("/etc")
    return root


def files(root: Path) -> set[str]:
    return {
        str(each.relative_to(root))
        for each in root.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }


STAYS = {
    "var/lib/mysql/data",
    "etc/passwd",
    "home/me/letter",
    "opt/app/x",
    "boot/ostree/kernel",
    "ostree/repo/config",
    "ostree/deploy/default/var/lib/dpkg/status",
}


def test_old_system_goes_and_what_belongs_to_people_stays(old: Path) -> None:
    request_removal(old)
    assert remove_old_system(old) == []
    assert files(old) == STAYS
    assert not (old / "usr").exists()


def test_nothing_goes_unless_it_was_asked_for(old: Path) -> None:
    before = files(old)
    assert remove_old_system(old) == []
    assert files(old) == before


def test_links_are_not_followed(old: Path, tmp_path: Path) -> None:
    """A /var that is elsewhere is another system's, or nobody knows whose."""
    request_removal(old)
    (old / "var").rename(tmp_path / "var")
    (old / "var").symlink_to(tmp_path / "var")
    (old / "usr/share/elsewhere").symlink_to(tmp_path / "var")
    remove_old_system(old)
    assert (tmp_path / "var/lib/dpkg/status").exists()
    assert (tmp_path / "var/cache/apt/x").exists()
    assert Path("/etc/passwd").exists()


@pytest.fixture
def mounted(old: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = old / "usr/share/doc"
    subprocess.run(["mount", "-t", "tmpfs", "test", place], check=True)
    (place / "theirs").touch()
    yield place
    subprocess.run(["umount", place], check=True)


def test_other_file_systems_are_not_entered(old: Path, mounted: Path) -> None:
    request_removal(old)
    assert remove_old_system(old) == []
    assert (mounted / "theirs").exists()
    assert not (old / "usr/bin").exists()


def test_what_cannot_be_removed_is_said_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request_removal(old)
    unlink = Path.unlink

    def refused(path: Path) -> None:
        if path.name == "tool":
            raise PermissionError(1, "Operation not permitted")
        unlink(path)

    monkeypatch.setattr(Path, "unlink", refused)
    assert remove_old_system(old) == [f"{old}/usr/bin/tool: Operation not permitted"]
    assert files(old) == STAYS | {"usr/bin/tool"}
    assert not (old / STAMP).exists()


@pytest.mark.parametrize(
    ("options", "stamps"),
    [((), []), (("--cleanup",), [STAMP]), (("--cleanup", "--replace=wipe"), [])],
)
def test_option_asks_for_it_where_something_stays(
    options: tuple[str, ...], stamps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootc_build.onhost.cli.install._to_filesystem", lambda _args: 0)
    monkeypatch.setattr("bootc_build.onhost.install.target.is_host_root", lambda _root: True)
    assert main(["install", "to-existing-root", *options, str(tmp_path)]) == 0
    assert sorted(files(tmp_path)) == stamps
