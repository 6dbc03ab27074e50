"""The generator of GRUB's menu, run as libostree runs it, and checked by GRUB's own parser."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.host.invented_os import GENERATOR

KERNEL = "/boot/ostree/default-abc/vmlinuz-1"


@pytest.fixture
def loader(tmp_path: Path) -> Path:
    """A /boot with a kernel and no entries yet; its loader directory."""
    (tmp_path / "ostree/default-abc").mkdir(parents=True)
    (tmp_path / "ostree/default-abc/vmlinuz-1").touch()
    (tmp_path / "boot").symlink_to(".")
    (tmp_path / "loader.1/entries").mkdir(parents=True)
    return tmp_path / "loader.1"


def add(
    loader: Path, version: int, *, title: str = "Test OS", options: str = "rw", linux: str = KERNEL
) -> None:
    text = (
        f"title {title}\nversion {version}\noptions {options}\nlinux {linux}\ninitrd {linux}.img\n"
    )
    (loader / f"entries/ostree-{version}.conf").write_text(text)


def generate(loader: Path) -> subprocess.CompletedProcess[str]:
    command = [str(GENERATOR), "-o", str(loader / "grub.cfg")]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def menu(loader: Path) -> str:
    assert generate(loader).returncode == 0
    subprocess.run(["grub-script-check", loader / "grub.cfg"], check=True)
    return (loader / "grub.cfg").read_text()


def test_newest_entry_comes_first_by_number_not_by_name(loader: Path) -> None:
    for version in (1, 2, 10):
        add(loader, version, title=f"OS {version}")
    assert re.findall(r"^menuentry '([^']*)'", menu(loader), re.MULTILINE) == [
        "OS 10",
        "OS 2",
        "OS 1",
    ]


def test_entry_loads_kernel_with_its_options_and_initrd(loader: Path) -> None:
    add(loader, 1, options="root=UUID=a-b rw console=ttyS0,115200n8 ostree=/ostree/boot.1/x/0")
    text = menu(loader)
    assert (
        f"\tlinux {KERNEL} root=UUID=a-b rw console=ttyS0,115200n8 ostree=/ostree/boot.1/x/0\n"
        in text
    )
    assert f"\tinitrd {KERNEL}.img\n" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("a=$b;c rw", ["'a=$b;c'", "'rw'"]),
        ('dyndbg="file x +p" rw', ["'dyndbg=file x +p'", "'rw'"]),
        ("it's", ["'it'\\''s'"]),
        ("a\\b", ["'a\\b'"]),
        ('a=* "" b="x  y"z ü=ä c:d;', ["'a=*'", "'b=x  yz'", "'ü=ä'", "'c:d;'"]),
    ],
)
def test_grub_does_not_interpret_options(loader: Path, options: str, words: list[str]) -> None:
    add(loader, 1, options=options)
    assert f"\tlinux {KERNEL} {' '.join(words)}\n" in menu(loader)


def test_arguments_need_no_program_that_a_changed_etc_may_have_lost(
    loader: Path, tmp_path: Path
) -> None:
    # /usr/bin/awk is a link through /etc/alternatives: without it every entry came out without root= and ostree=.
    programs = tmp_path / "bin"
    programs.mkdir()
    for each in Path("/usr/bin").iterdir():
        if "awk" not in each.name:
            (programs / each.name).symlink_to(each)
    add(loader, 1, options='root=UUID=r dyndbg="file x +p" ostree=/ostree/boot.1/x/0')
    done = subprocess.run(
        [GENERATOR, "-o", loader / "grub.cfg"],
        env={"PATH": str(programs)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    words = "'root=UUID=r' 'dyndbg=file x +p' 'ostree=/ostree/boot.1/x/0'"
    assert f"\tlinux {KERNEL} {words}\n" in (loader / "grub.cfg").read_text()


def test_title_may_have_quotes(loader: Path) -> None:
    add(loader, 1, title='It\'s "1" $x')
    assert "menuentry 'It'\\''s \"1\" $x' " in menu(loader)


def test_kernel_is_found_with_and_without_boot_in_its_path(loader: Path) -> None:
    add(loader, 1, linux="/ostree/default-abc/vmlinuz-1")
    # /boot is a directory of the root file system here.
    assert "\tlinux /boot/ostree/default-abc/vmlinuz-1 rw\n" in menu(loader)
    assert "\tinitrd /boot/ostree/default-abc/vmlinuz-1.img\n" in menu(loader)


def test_paths_stay_as_they_are_where_boot_is_a_file_system_of_its_own(loader: Path) -> None:
    boot = loader.parent
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == boot.stat().st_dev:
            pytest.skip("/dev/shm is on the file system of the test")
        Path(other, "ostree").mkdir()
        (boot.parent / "sysroot").symlink_to(other)
        add(loader, 1, linux="/ostree/default-abc/vmlinuz-1")
        assert "\tlinux /ostree/default-abc/vmlinuz-1 rw\n" in menu(loader)


def test_entry_without_its_kernel_is_left_out(loader: Path) -> None:
    add(loader, 1)
    add(loader, 2, linux="/boot/ostree/default-gone/vmlinuz-2")
    done = generate(loader)
    assert done.returncode == 0
    assert "ostree-2.conf" in done.stderr
    assert (loader / "grub.cfg").read_text().count("menuentry ") == 1


def test_no_usable_entry_fails_and_keeps_the_old_menu(loader: Path) -> None:
    (loader / "grub.cfg").write_text("old")
    add(loader, 1, linux="/boot/ostree/default-gone/vmlinuz-2")
    done = generate(loader)
    assert done.returncode == 1
    assert "no entry" in done.stderr
    assert (loader / "grub.cfg").read_text() == "old"
    assert sorted(path.name for path in loader.iterdir()) == ["entries", "grub.cfg"]


def test_the_link_that_grub_follows_now_lives_on_when_it_is_replaced(loader: Path) -> None:
    add(loader, 1)
    link, kept = loader.parent / "loader", loader.parent / ".loader-before"
    link.symlink_to("loader.0")
    menu(loader)
    for target in ("loader.1", "loader.0"):
        before = link.lstat().st_ino
        new = loader.parent / "loader.tmp"
        new.symlink_to(target)
        new.rename(link)  # as libostree does
        assert kept.lstat().st_ino == before
        menu(loader)
        assert kept.lstat().st_ino == link.lstat().st_ino
    assert kept.readlink() == Path("loader.0")


def test_wrong_usage_fails() -> None:
    assert subprocess.run([GENERATOR], check=False, capture_output=True).returncode == 1


def test_shell_script_is_clean() -> None:
    subprocess.run(["shellcheck", GENERATOR], check=True)
