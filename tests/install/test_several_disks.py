"""Every disk below /boot gets the boot loader, or it is said of which that it does not."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import device, firmware, underlying
from bootc_build.onhost.install.firmware import choose
from bootc_build.onhost.install.request import BootDisk
from bootc_build.onhost.install.target import Target
from bootc_build.onhost.install.underlying import Underlying
from bootc_build.tools.sizes import MIB
from tests.host.invented_os import write_image

ROOT = "11111111-2222-3333-4444-555555555555"
BOTH = ("bios", "uefi")
_BIOS = f"size=1MiB, type={device.BIOS_BOOT_TYPE}\n"
_ESP = f"size=70MiB, type={device.ESP_TYPE}\n"


def make_disk(path: Path, *parts: str) -> Path:
    with path.open("xb") as file:
        file.truncate(96 * MIB)
    table = f"label: gpt\n{''.join(parts)}type=L\n".encode()
    subprocess.run(["sfdisk", "--quiet", path], input=table, check=True)
    return path


def on(*disks: Path) -> Underlying:
    return Underlying("/dev/md0", disks, ("mdraid1x",))


def test_each_disk_gets_what_it_has_room_for(tmp_path: Path) -> None:
    one = make_disk(tmp_path / "one", _BIOS, _ESP)
    two = make_disk(tmp_path / "two", _BIOS)
    choice = choose(on(one, two), None, BOTH, esp_is_mounted=False)
    assert choice.bootloaders == BOTH
    assert choice.disks == (BootDisk(one, BOTH), BootDisk(two, ("bios",)))
    [warning] = choice.warnings
    assert warning.startswith(f"{two} gets no boot loader for UEFI, as it lacks an EFI system")
    assert choose(on(one), None, BOTH, esp_is_mounted=False).warnings == ()


def test_disk_without_any_room_is_warned_of_where_another_has_it(tmp_path: Path) -> None:
    one, two = make_disk(tmp_path / "one", _BIOS), make_disk(tmp_path / "two")
    choice = choose(on(one, two), ("bios",), BOTH, esp_is_mounted=False)
    assert choice.disks == (BootDisk(one, ("bios",)), BootDisk(two, ()))
    [warning] = choice.warnings
    assert warning.startswith(f"{two} gets no boot loader for BIOS, as it lacks a BIOS boot")


def test_disks_without_room_are_all_named(tmp_path: Path) -> None:
    one, two = make_disk(tmp_path / "one"), make_disk(tmp_path / "two")
    with pytest.raises(UserError, match=f"{one} and {two} lack a BIOS boot partition"):
        choose(on(one, two), ("bios",), BOTH, esp_is_mounted=True)


def test_mounted_esp_is_the_only_one_that_is_written(tmp_path: Path) -> None:
    disks = [make_disk(tmp_path / name, _ESP) for name in ("one", "two")]
    choice = choose(on(*disks), None, BOTH, esp_is_mounted=True, esp_disks=disks[1:])
    [warning] = choice.warnings
    assert warning.startswith(f"{disks[0]} gets no boot loader for UEFI, which goes to the EFI")
    mirrored = choose(on(*disks), None, BOTH, esp_is_mounted=True, esp_disks=disks)
    assert mirrored.warnings == ()


def test_boot_where_grub_does_not_find_it_is_refused_for_all_firmware() -> None:
    below = Underlying("/dev/dm-0", obstacle="/dev/dm-0 is encrypted", readable=False)
    for wanted in (None, ("uefi",)):
        with pytest.raises(UserError, match="on /dev/dm-0, where GRUB") as refused:
            choose(below, wanted, BOTH, esp_is_mounted=True)
        assert "/dev/dm-0 is encrypted" in refused.value.fact
        assert "--bootloader none" in refused.value.remedy


def test_disks_that_are_not_known_are_refused_but_for_a_mounted_esp() -> None:
    below = Underlying("/dev/md0", obstacle="/dev/sda is not there")
    for wanted, esp in ((None, False), (("bios",), True), (("uefi",), False)):
        with pytest.raises(UserError, match="/dev/sda is not there") as refused:
            choose(below, wanted, BOTH, esp_is_mounted=esp)
        assert "--bootloader-target uefi" in refused.value.remedy
    assert choose(below, ("uefi",), BOTH, esp_is_mounted=True) == firmware.Choice(("uefi",), ())
    choice = choose(below, None, BOTH, esp_is_mounted=True)
    assert choice.warnings == ("There is no boot loader for BIOS: /dev/sda is not there",)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installation sets for libostree is forgotten after it."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "")
    monkeypatch.setenv("OSTREE_SYSROOT_OPTS", "")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "image", tmp_path, version="1")
    return tmp_path / "image"


def install(
    image: Path,
    found: Target,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str] = (),
) -> int:
    target = image.parent / "target"
    monkeypatch.setattr("bootc_build.onhost.install.target.inspect", lambda _root: found)
    monkeypatch.setattr(underlying, "check_image", lambda _root, _boot: None)
    monkeypatch.setattr(device, "uuid_of", lambda node: f"uuid-of-{node}")
    names = (f"--source-imgref=oci:{image}:image", "--target-imgref=registry.example/os:1")
    verb = ("install", "to-filesystem", "--skip-finalize")
    return main([*verb, *names, *options, str(target)])


@pytest.mark.parametrize("alongside", [False, True])
def test_both_disks_of_an_array_boot_it(
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    alongside: bool,
) -> None:
    disks = [make_disk(image.parent / name, _BIOS, _ESP) for name in ("one", "two")]
    for disk in disks:
        table = device.partition_table(disk)
        esp = table.esp() if table else None
        assert esp is not None
        firmware.make_esp(disk, esp)
    below = replace(on(*disks), arrays=(Path("/dev/sda2"),), volumes=("vg/root",))
    found = Target(f"UUID={ROOT}", (), None, below, esp_is_mounted=False, root=below)
    target = image.parent / "target"
    (target / "boot").mkdir(parents=True)
    options = ["--replace=alongside"] if alongside else []
    assert install(image, found, monkeypatch, options) == 0, capsys.readouterr().err
    grub = target / "boot/grub/i386-pc"
    core = (grub / "core.img").read_bytes()
    for disk in disks:
        written = disk.read_bytes()
        assert written[:440].count(0) < 300, "there is code in the first sector"
        # But for the block list in its first sector, which is the disk's.
        assert core[512:] in written
        listed = subprocess.run(
            ["mdir", "-i", f"{disk}@@2M", "-/", "-b", "::"], check=True, capture_output=True
        ).stdout
        assert b"EFI/BOOT/BOOTX64.EFI" in listed
    [entry] = (target / "boot/loader/entries").glob("*.conf")
    assert f"root=UUID={ROOT} rd.md.uuid=uuid-of-/dev/sda2 rd.lvm.lv=vg/root " in entry.read_text()
    assert "warning" not in capsys.readouterr().err


def test_grubs_core_has_what_reads_an_array(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = make_disk(image.parent / "one", _BIOS)
    (image.parent / "target").mkdir()
    below = Underlying("/dev/md0", (disk,), ("mdraid1x", "no-such-module"))
    found = Target(f"UUID={ROOT}", (), None, below, esp_is_mounted=False, root=below)
    # It is GRUB's own program that is asked for the modules.
    assert install(image, found, monkeypatch) == 1
    assert "i386-pc/no-such-module.mod" in capsys.readouterr().err


def test_nothing_is_touched_where_no_boot_loader_would_be_found(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (image.parent / "target").mkdir()
    below = Underlying("/dev/dm-0", obstacle="/dev/dm-0 is encrypted", readable=False)
    found = Target(f"UUID={ROOT}", (), None, below, esp_is_mounted=True, root=below)
    assert install(image, found, monkeypatch) == 1
    assert "/boot is on /dev/dm-0, where GRUB would not find it" in capsys.readouterr().err
    assert list((image.parent / "target").iterdir()) == []
    assert install(image, found, monkeypatch, ["--bootloader=none"]) == 0


def test_disk_that_would_not_boot_alone_is_warned_of(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disks = (make_disk(image.parent / "one", _BIOS), make_disk(image.parent / "two"))
    (image.parent / "target").mkdir()
    found = Target(f"UUID={ROOT}", (), None, on(*disks), esp_is_mounted=False, root=on(*disks))
    assert install(image, found, monkeypatch) == 0
    assert f"warning: {disks[1]} gets no boot loader for BIOS" in capsys.readouterr().err
