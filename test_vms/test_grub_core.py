"""GRUB for BIOS, as `bootc install` lays it down, finds its menu on each file system that /boot may have."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.install import bootloader, device
from bootc_build.onhost.install.bootsector import SECTOR, embed
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, MachineSpec

_UUID = "6b8b4567-327b-43c6-a437-1f3a9d2e5c10"
_CORE, _BOOT = 2048, 4096  # first sectors
_BOOT_MIB = 320  # less is too small for XFS
_MENU = "serial --unit=0 --speed=115200\nterminal_output serial\necho MENU-FOUND\nreboot\n"


def _make_ext4(tree: Path, partition: Path) -> None:
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-U", _UUID, "-d", tree, partition], check=True)


def _make_btrfs(tree: Path, partition: Path) -> None:
    subprocess.run(["mkfs.btrfs", "-q", "-U", _UUID, "--rootdir", tree, partition], check=True)


def _make_xfs(tree: Path, partition: Path) -> None:
    prototype = tree.with_name("prototype")
    menu = f"grub.cfg ---644 0 0 {tree}/grub/grub.cfg"
    prototype.write_text(f"/\n0 0\nd--755 0 0\ngrub d--755 0 0\n{menu}\n$\n$\n")
    identity = f"uuid={_UUID}"
    subprocess.run(["mkfs.xfs", "-q", "-m", identity, "-p", prototype, partition], check=True)


@pytest.mark.parametrize("make", [_make_ext4, _make_btrfs, _make_xfs])
def test_the_menu_is_found_on_the_file_system_of_boot(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    boot, tree, partition, disk = (tmp_path / name for name in ("boot", "tree", "part", "disk"))
    boot.mkdir()
    bootloader.install(("bios",), boot=boot, boot_uuid=_UUID)
    (tree / "grub").mkdir(parents=True)
    (tree / "grub/grub.cfg").write_text(_MENU)
    with partition.open("xb") as file:
        file.truncate(_BOOT_MIB << 20)
    make(tree, partition)
    with disk.open("xb") as file:
        file.truncate(_BOOT * SECTOR + ((_BOOT_MIB + 1) << 20))
    table = (
        f"label: gpt\nstart={_CORE}, size={_BOOT - _CORE}, type={device.BIOS_BOOT_TYPE}\n"
        f"start={_BOOT}, size={_BOOT_MIB}MiB, type=L\n"
    )
    subprocess.run(["sfdisk", "--quiet", disk], input=table.encode(), check=True)
    embed(boot / "grub/i386-pc", disk, sector=_CORE, room=(_BOOT - _CORE) * SECTOR)
    place = [f"of={disk}", f"seek={_BOOT}", f"bs={SECTOR}", "conv=notrunc,sparse", "status=none"]
    subprocess.run(["dd", f"if={partition}", *place], check=True)
    spec = MachineSpec((Disk.open(disk),), memory_mib=64, cpus=1, network=False, credentials=())
    with Machine(spec) as machine:
        machine.start()
        machine.console.expect([b"MENU-FOUND"], timeout=machine.seconds(60))
        machine.power_cut()
