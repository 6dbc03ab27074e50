import subprocess
from pathlib import Path

import pytest

from bootc_build.testing.crash_points.boot_view import resolve
from bootc_build.testing.crash_points.menu import parse_menu

_GENERATOR = Path("bootc_build/data/image_root/usr/libexec/bootc/grub-menu").resolve()


def _generated(folder: Path, options: str) -> str:
    (folder / "loader/entries").mkdir(parents=True)
    (folder / "ostree").mkdir()
    for number in (1, 2):
        (folder / f"ostree/linux{number}").touch()
        entry = f"title It's {number}\nversion {number}\nlinux /boot/ostree/linux{number}\n"
        entry += f"initrd /boot/ostree/initrd{number}\noptions {options}/{number}\n"
        (folder / f"loader/entries/ostree-{number}.conf").write_text(entry)
    menu = folder / "loader/grub.cfg"
    subprocess.run([_GENERATOR, "-o", menu], check=True)
    return menu.read_text()


def test_the_generators_menu_is_understood(tmp_path: Path) -> None:
    menu = parse_menu(_generated(tmp_path, 'quiet "dyndbg=file a.c +p" ostree=/ostree/boot.0'))
    newest, older = menu.entries
    assert newest.title == "It's 2"
    assert newest.kernel.endswith("/ostree/linux2")
    assert newest.initrds[0].endswith("/ostree/initrd2")
    assert newest.deployment_link == "/ostree/boot.0/2"
    assert older.deployment_link == "/ostree/boot.0/1"
    assert "dyndbg=file a.c +p" in newest.arguments


def test_a_menu_that_is_cut_off_in_an_entry_is_refused(tmp_path: Path) -> None:
    text = _generated(tmp_path, "quiet")
    begin = text.index("{\n", text.index("menuentry")) + 2
    for cut in range(begin, text.index("}", begin)):
        with pytest.raises(ValueError, match=r"no end|names no"):
            parse_menu(text[:cut])


def test_an_entry_without_a_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernel"):
        parse_menu("menuentry 'x' {\n}\n")


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("", 0),
        ("set default=1", 1),
        ('set default="${saved}"', None),
        ("set default=0\nif [ x ]; then\n set default=1\nfi", None),
    ],
)
def test_a_computed_default_is_not_guessed(text: str, default: int | None) -> None:
    assert parse_menu(text).default == default


def test_links_are_followed_inside(tmp_path: Path) -> None:
    (tmp_path / "loader.1").mkdir()
    (tmp_path / "loader.1/grub.cfg").touch()
    (tmp_path / "loader").symlink_to("loader.1")
    (tmp_path / "grub").mkdir()
    (tmp_path / "grub/grub.cfg").symlink_to("../loader/grub.cfg")
    (tmp_path / "boot").symlink_to(".")
    (tmp_path / "out").symlink_to("/../../etc")
    (tmp_path / "round").symlink_to("round")
    assert resolve(tmp_path, "/grub/grub.cfg") == tmp_path / "loader.1/grub.cfg"
    assert resolve(tmp_path, "/boot/boot/loader/grub.cfg") == tmp_path / "loader.1/grub.cfg"
    assert resolve(tmp_path, "/out") is None
    assert resolve(tmp_path, "/round") is None
