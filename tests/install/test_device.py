"""Facts about mounts and disks."""

from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import device, firmware, target, underlying
from bootc_build.onhost.install.request import BootDisk
from bootc_build.onhost.install.underlying import Underlying
from tests.install.pretended_sysfs import Sysfs

MOUNTINFO = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 254:2 / /boot rw shared:2 - ext4 /dev/vda2 rw
40 22 254:1 /var/tmp/tree /run/target rw - ext4 /dev/vda1 rw
50 22 0:40 /@ /mnt/with\040blank rw - btrfs /dev/vdb1 rw,subvolid=256,subvol=/@
60 22 0:40 /@/inner /mnt/inner rw - btrfs /dev/vdb1 rw,subvolid=256,subvol=/@
70 22 0:50 / /tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("point", "whole"),
    [
        ("/", True),
        ("/boot", True),
        ("/run/target", False),  # a bind mount: its disk is somebody else's
        ("/mnt/with blank", True),
        ("/mnt/inner", False),
        ("/tmp", False),
    ],
)
def test_a_bind_mount_is_no_file_system_of_its_own(point: str, *, whole: bool) -> None:
    (found,) = [each for each in device.parse_mountinfo(MOUNTINFO) if each.point == point]
    assert found.is_whole == whole


def test_a_plain_directory_has_no_disk(tmp_path: Path) -> None:
    assert target.inspect(tmp_path) == target.Target(None, (), None, None, esp_is_mounted=False)


def test_boot_is_mounted_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        f"22 1 254:1 / {tmp_path} rw - ext4 /dev/absent1 rw\n"
        f"30 22 254:2 / {tmp_path}/boot rw - xfs /dev/absent2 rw\n"
    )
    monkeypatch.setattr(device, "mounts", lambda: device.parse_mountinfo(lines))
    monkeypatch.setattr(device, "uuid_of", str)
    assert target.inspect(tmp_path).boot_type == "xfs"


def test_disks_are_those_that_boot_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Sysfs(tmp_path / "system", monkeypatch)
    for disk in ("sda", "sdb", "sdc"):
        system.disk(disk)
        system.partition(f"{disk}1", disk)
    system.array("md0", ["sda1", "sdb1"])
    for number, name in (("9:0", "md0"), ("8:33", "sdc1"), ("8:17", "sdb1")):
        system.number(number, name)
    root, boot, esp = (
        f"2{n} 1 {number} / {tmp_path}{point} rw - ext4 /dev/{name} rw\n"
        for n, (point, number, name) in enumerate(
            (("", "9:0", "md0"), ("/boot", "8:33", "sdc1"), ("/boot/efi", "8:17", "sdb1"))
        )
    )
    monkeypatch.setattr(device, "uuid_of", str)

    def inspect(lines: str) -> target.Target:
        monkeypatch.setattr(device, "mounts", lambda: device.parse_mountinfo(lines))
        return target.inspect(tmp_path)

    disks = [system.devices / name for name in ("sda", "sdb", "sdc")]
    found = inspect(root + esp)
    assert found.boot == found.root == underlying.find_underlying(Path("/dev/md0"), "9:0")
    assert found.boot.disks == (disks[0], disks[1])
    assert found.esp_disks == (disks[1],)
    apart = inspect(root + boot)
    assert apart.boot is not None
    assert (apart.boot.disks, apart.root, apart.esp_disks) == ((disks[2],), found.root, ())


def test_root_of_the_running_kernel_is_inherited() -> None:
    line = "BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro quiet rootflags=subvol=@ rd.luks.uuid=9"
    assert target.inherited_root(line) == ("UUID=1-2", ("rootflags=subvol=@", "rd.luks.uuid=9"))
    assert target.inherited_root("quiet") == (None, ())


def part(start: int, sectors: int, kind: str) -> device.Partition:
    return device.Partition(Path("/dev/x1"), start, sectors, kind)


def test_grubs_core_goes_to_its_partition_or_behind_the_mbr() -> None:
    gpt = device.Table("gpt", (part(2048, 2048, device.BIOS_BOOT_TYPE), part(4096, 9, "83")))
    assert gpt.bios_room() == (2048, 2048 * 512)
    assert device.Table("dos", (part(2048, 9, "83"),)).bios_room() == (1, 2047 * 512)
    assert device.Table("gpt", (part(2048, 9, "83"),)).bios_room() is None


def test_esp_is_found_in_both_kinds_of_table() -> None:
    assert device.Table("dos", (part(2048, 9, "83"), part(4096, 9, "ef"))).esp() is not None
    assert device.Table("gpt", (part(2048, 9, device.ESP_TYPE),)).esp() is not None
    assert device.Table("gpt", (part(2048, 9, "83"),)).esp() is None


def test_disk_without_room_for_a_boot_loader_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    below = Underlying("/dev/x1", (disk,))
    both = ("bios", "uefi")
    with pytest.raises(UserError, match="lacks a BIOS boot partition"):
        firmware.choose(below, None, both, esp_is_mounted=False)
    with pytest.raises(UserError, match="lacks a BIOS boot partition"):
        firmware.choose(below, ("bios",), both, esp_is_mounted=True)
    choice = firmware.choose(below, None, both, esp_is_mounted=True)
    assert choice == firmware.Choice(("uefi",), (BootDisk(disk, ("uefi",)),))
