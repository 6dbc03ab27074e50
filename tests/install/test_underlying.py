"""What the file system of /boot stands on, told from a pretended /sys."""

from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import device, initramfs
from bootc_build.onhost.install.underlying import Underlying, check_image
from tests.install.pretended_sysfs import Sysfs

GROUP = "g" * 32


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    """Two disks with two partitions each."""
    sysfs = Sysfs(tmp_path, monkeypatch)
    for disk in ("sda", "sdb"):
        sysfs.disk(disk)
        for number in (1, 2):
            sysfs.partition(f"{disk}{number}", disk)
    return sysfs


def disks(system: Sysfs, *names: str) -> tuple[Path, ...]:
    return tuple(system.devices / name for name in names)


def test_partition_is_on_its_disk_and_a_disk_on_itself(system: Sysfs) -> None:
    assert system.look("sda1") == Underlying("/dev/sda1", disks(system, "sda"))
    assert system.look("sdb") == Underlying("/dev/sdb", disks(system, "sdb"))


@pytest.mark.parametrize(
    ("level", "version", "modules"),
    [
        ("raid1", "1.2", ("mdraid1x",)),
        ("raid1", "0.90", ("mdraid09",)),
        ("raid10", "1.0", ("mdraid1x",)),
        ("raid5", "1.2", ("mdraid1x", "raid5rec")),
        ("raid6", "1.2", ("mdraid1x", "raid5rec", "raid6rec")),
    ],
)
def test_array_is_on_the_disks_of_its_members(
    system: Sysfs, level: str, version: str, modules: tuple[str, ...]
) -> None:
    system.array("md0", ["sda2", "sdb2"], level, version)
    found = system.look("md0")
    assert found.disks == disks(system, "sda", "sdb")
    assert found.grub_modules == modules
    assert found.dracut_modules == ("mdraid",)
    assert found.arrays == disks(system, "sda2")


def test_volume_is_on_the_disks_of_its_group(system: Sysfs) -> None:
    system.volume("dm-0", ["sdb2", "sda1", "sda2"], "my--group-ro--ot")
    found = system.look("dm-0")
    assert found.disks == disks(system, "sda", "sdb"), "each once"
    assert (found.grub_modules, found.volumes) == (("lvm",), ("my-group/ro-ot",))


def test_volume_on_an_array_of_volumes_is_followed_all_the_way(system: Sysfs) -> None:
    system.volume("dm-0", ["sda2"], "one-a")
    system.volume("dm-1", ["sdb2"], "one-b")
    system.array("md7", ["dm-0", "dm-1"])
    system.volume("dm-2", ["md7"], "two-root", group="h" * 32)
    found = system.look("dm-2")
    assert found.disks == disks(system, "sda", "sdb")
    assert set(found.grub_modules) == {"lvm", "mdraid1x"}
    assert found.volumes == ("two/root", "one/a", "one/b")
    assert found.dracut_modules == ("mdraid", "lvm")


def test_parts_of_a_mirrored_volume_are_no_volumes_of_their_own(system: Sysfs) -> None:
    for number, disk in enumerate(("sda2", "sdb2")):
        system.volume(f"dm-{number}", [disk], f"vg-root_rimage_{number}", part="-rimage")
    system.volume("dm-9", ["dm-0", "dm-1"], "vg-root")
    found = system.look("dm-9")
    assert found.disks == disks(system, "sda", "sdb")
    assert found.volumes == ("vg/root",)


UNREADABLE = {
    "encrypted": ("dm", "CRYPT-LUKS2-0-x", "dm-5 is encrypted"),
    "thin": ("dm", f"LVM-{GROUP}{'v' * 32}-tpool", "dm-5 is a thin, cached or compressed"),
    "other": ("dm", "VERITY-x", "dm-5 is a device of the device mapper that is not LVM's"),
    "linear": ("md", "linear", "dm-5 is an array of the level linear"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_grub_cannot_read_is_named(system: Sysfs, case: str) -> None:
    kind, text, said = UNREADABLE[case]
    if kind == "dm":
        system.mapped("dm-5", ["sda2"], text)
    else:
        system.array("dm-5", ["sda2", "sdb2"], text)
    system.volume("dm-6", ["sdb1", "dm-5"], "vg-root")
    found = system.look("dm-6")
    assert (found.readable, found.disks) == (False, ())
    assert said in found.obstacle


def test_partition_of_a_disk_with_several_paths_is_on_that(system: Sysfs) -> None:
    system.mapped("dm-0", ["sda", "sdb"], "mpath-3600")
    system.mapped("dm-1", ["dm-0"], "part2-mpath-3600")
    assert system.look("dm-1") == Underlying("/dev/dm-1", disks(system, "dm-0"))


@pytest.mark.parametrize(
    ("level", "version", "readable"),
    [
        ("raid1", "1.0", True),
        ("raid1", "0.90", True),
        ("raid5", "external:/md127/0", True),
        ("raid1", "1.2", False),
        ("raid0", "1.0", False),
    ],
)
def test_partition_of_an_array_is_on_it_where_firmware_takes_it_for_a_disk(
    system: Sysfs, level: str, version: str, *, readable: bool
) -> None:
    system.array("md126", ["sda", "sdb"], level, version)
    system.partition("md126p1", "md126")
    found = system.look("md126p1")
    assert found.readable == readable
    assert found.disks == (disks(system, "md126") if readable else ())


def test_device_that_is_not_here_is_named(system: Sysfs) -> None:
    assert system.look("sdz").obstacle == "/dev/sdz is no device that is known here"
    (system.devices / "sdb").unlink()
    system.array("md0", ["sda1", "sdb1"])
    found = system.look("md0")
    assert found.obstacle == f"{system.devices}/sdb is not there"
    assert (found.disks, found.readable) == ((), True)


def test_kernel_is_told_what_to_bring_up(system: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "uuid_of", lambda node: f"uuid-of-{Path(node).name}")
    system.array("md0", ["sda2", "sdb2"])
    system.volume("dm-0", ["md0"], "vg-root")
    assert system.look("dm-0").kernel_arguments() == (
        "rd.md.uuid=uuid-of-sda2",
        "rd.lvm.lv=vg/root",
    )
    assert system.look("sda1").kernel_arguments() == ()


ON_ARRAY = Underlying("/dev/md0", arrays=(Path("/dev/sda1"),))
ON_VOLUME = Underlying("/dev/dm-0", volumes=("vg/root",))
ON_DISK = Underlying("/dev/sda1")


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of an image with LVM and an initramfs that has it."""
    programs = tmp_path / "image/usr/sbin"
    programs.mkdir(parents=True)
    (programs / "lvm").touch()
    (tmp_path / "modules/6.1").mkdir(parents=True)
    (tmp_path / "modules/6.1/initramfs.img").touch()
    lister = tmp_path / "bin/lsinitrd"
    lister.parent.mkdir()
    lister.write_text("#!/bin/sh\nprintf '%s\\n' systemd lvm ostree\n")
    lister.chmod(0o755)
    monkeypatch.setattr(initramfs, "FOLDERS", tmp_path / "modules")
    monkeypatch.setenv("PATH", f"{lister.parent}:/usr/bin:/bin")
    return tmp_path / "image"


def test_image_has_to_have_what_brings_its_devices_up(image: Path) -> None:
    check_image(ON_DISK, ON_DISK, image_root=image)
    check_image(ON_VOLUME, ON_DISK, image_root=image)
    for root, boot in ((ON_ARRAY, ON_DISK), (ON_DISK, ON_ARRAY)):
        with pytest.raises(UserError, match=r"lacks mdadm, and /dev/md0 could not") as refused:
            check_image(root, boot, image_root=image)
        assert refused.value.remedy == "Install in the Containerfile: mdadm"


def test_initramfs_has_to_have_what_brings_the_root_up(image: Path) -> None:
    (image / "usr/sbin/mdadm").touch()
    with pytest.raises(UserError, match=r"dracut's mdraid is not in it"):
        check_image(ON_ARRAY, ON_ARRAY, image_root=image)
    check_image(ON_DISK, ON_ARRAY, image_root=image)
