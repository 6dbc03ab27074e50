"""GRUB for BIOS, as `bootc install` lays it down, finds its menu on each file system that /boot may have, and on what that
may be on."""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.disk import lvm
from bootc_build.onhost.install import bootloader, device
from bootc_build.onhost.install.bootsector import SECTOR, embed
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, MachineSpec

_UUID = "6b8b4567-327b-43c6-a437-1f3a9d2e5c10"
_CORE, _BOOT = 2048, 4096  # first sectors
_BOOT_MIB = 320  # less is too small for XFS
_SMALL_MIB = 16
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


def _make_volume(partition: Path) -> None:
    """Put the file system in a file on a logical volume."""
    inside = partition.read_bytes()
    size = partition.stat().st_size + 2 * lvm.EXTENT
    partition.write_bytes(bytes(size))
    volume = lvm.Volume("boot", UUID(int=1), 1, len(inside) // lvm.EXTENT)
    group = lvm.VolumeGroup("the-group", UUID(int=2), UUID(int=3), size, [volume], 0)
    lvm.write_group(group, partition, 0)
    with partition.open("r+b") as file:
        file.seek(volume.offset)
        file.write(inside)


def _make_member(partition: Path, number: int) -> None:
    """Put the file system in a file on a mirror of two (md, metadata 1.2), of which this is one part.

    The structure is ``struct mdp_superblock_1`` of the kernel's ``include/uapi/linux/raid/md_p.h``.
    """
    inside = partition.read_bytes()
    at, data = 8, 2048  # sectors
    block = bytearray(256 + 2 * 2)
    length = len(inside) // SECTOR
    struct.pack_into(
        "<III4x16s32sQIIQII", block, 0, 0xA92B4EFC, 1, 0, b"m" * 16, b"boot", 0, 1, 0, length, 0, 2
    )
    struct.pack_into("<QQQQII16s", block, 128, data, length, at, 0, number, 0, bytes([number]) * 16)
    struct.pack_into("<QQQII", block, 192, 0, 1, 2**64 - 1, 0, 2)
    struct.pack_into("<HH", block, 256, 0, 1)
    words = struct.unpack(f"<{len(block) // 4}I", block)
    total = sum(words)
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    content = bytes(at * SECTOR) + block
    partition.write_bytes(content.ljust(data * SECTOR, b"\0") + inside)


def _assemble(disk: Path, partition: Path, grub: Path) -> None:
    """Make a disk of GRUB and a partition."""
    size = partition.stat().st_size
    with disk.open("xb") as file:
        file.truncate(_BOOT * SECTOR + size + (1 << 20))
    table = (
        f"label: gpt\nstart={_CORE}, size={_BOOT - _CORE}, type={device.BIOS_BOOT_TYPE}\n"
        f"start={_BOOT}, size={size // SECTOR}, type=L\n"
    )
    subprocess.run(["sfdisk", "--quiet", disk], input=table.encode(), check=True)
    embed(grub, disk, sector=_CORE, room=(_BOOT - _CORE) * SECTOR)
    place = [f"of={disk}", f"seek={_BOOT}", f"bs={SECTOR}", "conv=notrunc,sparse", "status=none"]
    subprocess.run(["dd", f"if={partition}", *place], check=True)


def _make_tree(tree: Path) -> None:
    (tree / "grub").mkdir(parents=True)
    (tree / "grub/grub.cfg").write_text(_MENU)


def _finds_the_menu(*disks: Path) -> None:
    drives = tuple(Disk.open(disk) for disk in disks)
    spec = MachineSpec(drives, memory_mib=64, cpus=1, network=False, credentials=())
    with Machine(spec) as machine:
        machine.start()
        machine.console.expect([b"MENU-FOUND"], timeout=machine.seconds(60))
        machine.power_cut()


@pytest.mark.parametrize("make", [_make_ext4, _make_btrfs, _make_xfs])
def test_the_menu_is_found_on_the_file_system_of_boot(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    boot, tree, partition, disk = (tmp_path / name for name in ("boot", "tree", "part", "disk"))
    boot.mkdir()
    bootloader.install(("bios",), boot=boot, boot_uuid=_UUID)
    _make_tree(tree)
    with partition.open("xb") as file:
        file.truncate(_BOOT_MIB << 20)
    make(tree, partition)
    _assemble(disk, partition, boot / "grub/i386-pc")
    _finds_the_menu(disk)


@pytest.mark.parametrize("kind", ["volume", "mirror"])
def test_the_menu_is_found_where_boot_is_on_no_partition(kind: str, tmp_path: Path) -> None:
    boot, tree = tmp_path / "boot", tmp_path / "tree"
    boot.mkdir()
    modules = ("lvm",) if kind == "volume" else ("mdraid1x",)
    bootloader.install(("bios",), boot=boot, boot_uuid=_UUID, modules=modules)
    _make_tree(tree)
    disks = []
    for number in range(1 if kind == "volume" else 2):
        partition = tmp_path / f"part{number}"
        with partition.open("xb") as file:
            file.truncate(_SMALL_MIB << 20)
        _make_ext4(tree, partition)
        if kind == "volume":
            _make_volume(partition)
        else:
            _make_member(partition, number)
        disks.append(tmp_path / f"disk{number}")
        _assemble(disks[-1], partition, boot / "grub/i386-pc")
    # Each disk alone, too: that is what a mirror is for.
    for present in dict.fromkeys((tuple(disks), *((disk,) for disk in disks))):
        _finds_the_menu(*present)
