"""`bootc container inspect`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bootc_build.onhost.cli.main import main
from tests.host.invented_os import make_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tree(
        tmp_path / "root", version="1", kargs='kargs = ["quiet", "console=ttyS0"]\n', etc="etc"
    )
    return tmp_path / "root"


def inspect(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["container", "inspect", f"--rootfs={root}", *more]) == 0
    return capsys.readouterr().out


def test_documents_have_upstreams_fields(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "kargs": ["quiet", "console=ttyS0"],
        "kernel": {"version": "1.0", "unified": False},
    }
    assert json.loads(inspect(root, capsys, "--json")) == expected
    assert json.loads(inspect(root, capsys, "--format=json")) == expected
    assert yaml.safe_load(inspect(root, capsys, "--format=yaml")) == expected


def test_people_get_aligned_lines(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(root, capsys) == "Kernel: 1.0\n  Type: vmlinuz\n Kargs: quiet console=ttyS0\n"


def test_image_without_a_kernel_says_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(tmp_path, capsys) == "Kernel: <none>\n Kargs: <none>\n"
    assert json.loads(inspect(tmp_path, capsys, "--json"))["kernel"] is None


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda kargs: (kargs / "a.toml").write_bytes(b'kargs=["\xff"]'), "a.toml cannot be read as text"),
        (lambda kargs: (kargs / "a.toml").symlink_to("/nowhere"), "a.toml leads to no file"),
        (lambda kargs: (kargs / "a.toml").mkdir(), "a.toml is not a file"),
    ],
)  # fmt: skip
def test_damaged_kernel_arguments_are_named(
    spoil: Callable[[Path], object], fact: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root / "usr/lib/bootc/kargs.d")
    assert main(["container", "inspect", f"--rootfs={root}"]) == 1
    assert fact in capsys.readouterr().err


def test_unified_kernel_image_is_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "boot/EFI/Linux").mkdir(parents=True)
    (root / "boot/EFI/Linux/6.12.efi").touch()
    found = json.loads(inspect(root, capsys, "--json"))
    assert found["kernel"] == {"version": "6.12", "unified": True}
