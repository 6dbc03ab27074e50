"""What `bootc install` refuses, it refuses before it touches the target."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.install import bootloader
from bootc_build.onhost.install.configuration import merge
from bootc_build.onhost.install.target import Target
from tests.host.invented_os import write_image

ROOT = "11111111-2222-3333-4444-555555555555"
FILESYSTEM = ("to-filesystem", f"--root-mount-spec=UUID={ROOT}", "--skip-finalize")
WIPE = (*FILESYSTEM, "--replace=wipe")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installation sets for libostree is forgotten after it."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "")
    monkeypatch.setenv("OSTREE_SYSROOT_OPTS", "")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "image", tmp_path, version="1")
    return tmp_path / "image"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def install(options: tuple[str, ...], image: Path, target: Path, *more: str) -> int:
    names = (f"--source-imgref=oci:{image}:image", "--target-imgref=registry.example/os:1")
    return main(["install", *options, *names, *more, str(target)])


@pytest.mark.parametrize("options", [FILESYSTEM, WIPE], ids=["empty", "wipe"])
@pytest.mark.parametrize(
    "case",
    [
        (("--source-imgref=oci:/absent:image",), 1, "/absent"),
        (("--stateroot=a b",), 2, "'a b' cannot be the name of a stateroot"),
        (("--stateroot=..",), 2, "'..' cannot be the name of a stateroot"),
        (("--boot-mount-spec=UUID=a b",), 2, "'UUID=a b' does not name a file system"),
        (("--bootloader=systemd",), 1, "The boot loader 'systemd' cannot be installed"),
        (("--bootloader-target=bios,none",), 2, "'none' is no firmware"),
    ],
)
def test_target_stays_as_it_was(
    options: tuple[str, ...],
    case: tuple[tuple[str, ...], int, str],
    image: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more, status, fact = case
    if options == WIPE:
        (target / "precious").touch()
    before = sorted(target.iterdir())
    assert install(options, image, target, *more) == status
    assert fact in capsys.readouterr().err
    assert sorted(target.iterdir()) == before


def test_target_stays_as_it_was_where_the_image_lacks_its_boot_loader(
    image: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (target / "precious").touch()
    check = bootloader.check
    monkeypatch.setattr(
        bootloader, "check", lambda loaders: check(loaders, image_root=target.parent)
    )
    assert install(WIPE, image, target) == 1
    assert "lacks what its boot loader is made of" in capsys.readouterr().err
    assert [each.name for each in target.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "case",
    [
        ((), False, True),
        ((), True, True),
        (("--bootloader-target=uefi",), False, True),
        (("--bootloader-target=uefi",), True, False),
        (("--bootloader=none",), False, False),
    ],
)
def test_system_whose_disk_is_not_known_is_not_taken_over_without_a_boot_loader(
    case: tuple[tuple[str, ...], bool, bool],
    image: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, esp, refused = case
    (target / "boot").mkdir()
    (target / "boot/vmlinuz").touch()
    found = Target(f"UUID={ROOT}", (), "UUID=b", None, esp_is_mounted=esp)
    monkeypatch.setattr("bootc_build.onhost.install.target.inspect", lambda _root: found)
    status = install((*FILESYSTEM, "--replace=alongside"), image, target, *options)
    assert status == int(refused)
    assert (
        "is not the root of a file system, so no disk is known" in capsys.readouterr().err
    ) == refused
    assert (target / "ostree").exists() != refused


def test_disk_is_not_wiped_for_an_image_that_is_not_there(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    disk = tmp_path / "disk.raw"
    with disk.open("xb") as file:
        file.truncate(2**30)
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", disk], check=True)
    before = subprocess.run(["blkid", "-p", disk], check=True, capture_output=True).stdout
    command = [
        "install",
        "to-disk",
        "--via-loopback",
        "--wipe",
        "--source-imgref=oci:/absent:image",
    ]
    names = ["--target-imgref=registry.example/os:1", str(disk)]
    done = subprocess.run(
        [sys.executable, "-m", "bootc_build.onhost", *command, *names],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "/absent" in done.stderr
    assert subprocess.run(["blkid", "-p", disk], check=True, capture_output=True).stdout == before


def test_file_of_keys_that_is_no_text_or_not_there_is_named(
    image: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(b"ssh-rsa \xff\n")
    assert install(FILESYSTEM, image, target, f"--root-ssh-authorized-keys={keys}") == 1
    assert f"The SSH keys in {keys} are no text" in capsys.readouterr().err
    assert install(FILESYSTEM, image, target, "--root-ssh-authorized-keys=/absent") == 1
    said = capsys.readouterr().err
    assert said == "error: The SSH keys in /absent cannot be read: No such file or directory.\n"
    assert not list(target.iterdir())


def with_policy(tree: Path) -> None:
    where = tree / "etc/selinux/tiny"
    (where / "contexts/files").mkdir(parents=True)
    (where / "policy").mkdir()
    (tree / "etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=tiny\n")
    (where / "contexts/files/file_contexts").write_text("/.* system_u:object_r:default_t:s0\n")
    (where / "policy/policy.33").write_text("rules")


@pytest.mark.parametrize(
    ("spoil", "options", "expected"),
    [
        (lambda _tree: None, (), "disabled"),
        (with_policy, (), "enabled"),
        (with_policy, ("--disable-selinux",), "force-target-disabled"),
    ],
)
def test_record_says_whether_the_installed_system_has_selinux(
    spoil: Callable[[Path], None], options: tuple[str, ...], expected: str, target: Path
) -> None:
    image = target.parent / "image"
    write_image(image, target.parent, version="1", spoil=spoil)
    assert install(FILESYSTEM, image, target, "--bootloader=none", *options) == 0
    assert json.loads((target / ".bootc-aleph.json").read_text())["selinux"] == expected


@pytest.mark.parametrize(
    "case",
    [
        ((), "UUID=b", "UUID=b /boot ext4"),
        (("--boot-mount-spec=UUID=c",), "UUID=b", "UUID=c /boot ext4"),
        (("--boot-mount-spec=",), "UUID=b", "UUID=old /boot ext4"),
        (("--boot-mount-spec=",), None, "UUID=old /boot ext4"),
        ((), "UUID=x", "UUID=x /boot xfs defaults"),
    ],
)
def test_empty_specification_leaves_it_to_others_to_mount_boot(
    case: tuple[tuple[str, ...], str | None, str],
    image: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, boot, line = case
    kind = "xfs" if boot == "UUID=x" else "ext4"
    found = Target(f"UUID={ROOT}", (), boot, None, esp_is_mounted=False, boot_type=kind)
    monkeypatch.setattr("bootc_build.onhost.install.target.inspect", lambda _root: found)
    assert install(FILESYSTEM, image, target, *told) == 0
    (table,) = target.glob("ostree/deploy/default/deploy/*/etc/fstab")
    lines = [each for each in table.read_text().splitlines() if " /boot " in each]
    assert len(lines) == 1
    assert lines[0].startswith(line)
    stub = (target / "boot/efi/EFI/debian/grub.cfg").read_text()
    uuid = ROOT if boot is None else lines[0][5] if "old" not in lines[0] else boot[5:]
    assert f"--set=root {uuid}\n" in stub
    assert ("prefix=($root)/boot/grub" in stub) == (boot is None), "where /boot is the root's"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('root-mount-spec = "LABEL=x"', "install.root-mount-spec is not used by to-disk"),
        ('boot-mount-spec = ""', "install.boot-mount-spec is not used by to-disk"),
        ("bootupd = { skip-boot-uuid = true }", "install.bootupd.skip-boot-uuid is ignored"),
    ],
)
def test_configuration_that_is_not_used_is_warned_of(
    text: str,
    said: str,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configured = merge([("a.toml", f"[install]\n{text}\n")])
    monkeypatch.setattr(
        "bootc_build.onhost.install.configuration.load_configuration", lambda: configured
    )
    assert install(("to-disk",), Path("/absent"), target) == 1
    assert f"warning: {said}" in capsys.readouterr().err
