"""A system on logical volumes, written without the device mapper: it boots, LVM's programs manage it, and it grows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from bootc_build.tools.sizes import GIB, MIB
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk
from test_vms.example_os import FOLLOWS, Versions
from test_vms.os_images import PROJECT, build, newest_base_image

CONFIGURATION = """
volume-group: {name: vg}
root: {volume: system, size: 4 GiB}
swap: {volume: swap, size: 64 MiB}
filesystems: [{mountpoint: /var/data, size: 99 MiB, volume: data}]
size: 7 GiB
"""
GROWING = """
volume-group: {name: vg}
root: {volume: system}
swap: {volume: swap, size: 64 MiB}
filesystems: [{mountpoint: /var/data, size: 99 MiB, volume: data}]
"""
_EXTENT = 4 * MIB
_SWAP_EXTENTS = 16


@pytest.fixture(scope="module")
def make_disk(
    tmp_path_factory: pytest.TempPathFactory, versions: Versions
) -> Callable[[str], Path]:
    """Makes a disk of an image with LVM, by a configuration."""
    image = build(
        "volumes",
        PROJECT / "test_vms/volumes/Containerfile",
        arguments=[("EXAMPLE", versions.one)],
    )
    return lambda text: disk_of(image, text, tmp_path_factory.mktemp("disk"))


def disk_of(image: str, configuration: str, folder: Path) -> Path:
    """A disk by a configuration."""
    request = DiskRequest(
        image,
        [DiskType.RAW],
        folder,
        target=parse_target(FOLLOWS),
        configuration=disk_configuration(parse_document(configuration, ".yaml", "test"), "test"),
        manifest=False,
    )
    [disk] = build_disk(request, Silent())
    return disk.path


@pytest.mark.long
def test_a_system_on_logical_volumes_boots_and_its_volumes_can_be_managed(
    make_disk: Callable[[str], Path], bootc_vm: MachineFactory
) -> None:
    disk = make_disk(CONFIGURATION)
    # A root that was given its size stays as it is.
    enlarge(disk)
    machine = bootc_vm(disk)
    assert machine.failed_units() == []
    for point, volume in (("/sysroot", "system"), ("/var/data", "data")):
        found = machine.succeed(f"findmnt --noheadings --output SOURCE {point}")
        assert found == f"/dev/mapper/vg-{volume}\n"
    assert machine.succeed("swapon --noheadings --show=SIZE").strip() == "64M"
    machine.succeed("vgck vg && pvck /dev/vda4")
    machine.wait_for_unit("bootc-grow-root.service")
    assert said(machine) == ["/dev/vda4 is not marked to grow: nothing to do"]
    listed = machine.succeed("lvs --noheadings --options lv_name,lv_size --units m vg")
    assert [line.split() for line in listed.splitlines()] == [
        ["data", "100.00m"],
        ["swap", "64.00m"],
        ["system", "4096.00m"],
    ]
    # LVM writes the metadata anew: what was written before has to be understood for that.
    machine.succeed("lvextend --resizefs --size +40M vg/data && lvcreate --size 8M --name more vg")
    assert int(machine.succeed("findmnt -bno SIZE /var/data")) > 110 * MIB
    machine.succeed("bootc kargs --append=after.change=yes")
    machine.reboot()
    assert machine.failed_units() == []
    assert "after.change=yes" in machine.read("/proc/cmdline")
    assert "more" in machine.succeed("lvs --noheadings --options lv_name vg")


@dataclass(frozen=True)
class Room:
    """Of the root's volume and its file system, and what is free in the group."""

    volume: int
    filesystem: int
    free_extents: int
    tags: str
    changes: int

    @classmethod
    def of(cls, machine: Machine) -> "Room":
        options = "--noheadings --units b --nosuffix --options"
        [volume] = machine.succeed(f"lvs {options} lv_size vg/system").split()
        free, changes, *tags = machine.succeed(
            f"vgs {options} vg_free_count,vg_seqno,pv_tags vg"
        ).split()
        filesystem = machine.succeed("findmnt -bno SIZE /sysroot")
        return cls(int(volume), int(filesystem), int(free), "".join(tags), int(changes))


def enlarge(disk: Path) -> None:
    run(["qemu-img", "resize", "-q", "-f", "raw", str(disk), "+1G"])


def said(machine: Machine) -> list[str]:
    """What grow-root said at this boot."""
    lines = machine.succeed("journalctl -b -u bootc-grow-root -o cat").splitlines()
    return [line.removeprefix("grow-root: ") for line in lines if line.startswith("grow-root: ")]


def larger_disk(machine: Machine) -> None:
    """Give the machine a larger disk, and boot it without the service."""
    machine.succeed("systemctl mask bootc-grow-root")
    machine.shutdown()
    enlarge(machine.spec.disks[0].path)
    machine.boot()
    machine.succeed("systemctl unmask bootc-grow-root")
    assert said(machine) == []


def grow_until(machine: Machine, program: str, arguments: str = "*") -> Room:
    """Grow by the service's own script, which does not come further than a call of a program."""
    stops = (
        f'#!/bin/sh\ncase "$*" in\n{arguments}) exit 1 ;;\nesac\nexec /usr/sbin/{program} "$@"\n'
    )
    machine.succeed("mkdir -p /run/stops")
    machine.write(f"/run/stops/{program}", stops)
    machine.succeed(f"chmod +x /run/stops/{program}")
    machine.fail("PATH=/run/stops:$PATH /usr/libexec/bootc/grow-root")
    machine.succeed(f"rm /run/stops/{program}")
    return Room.of(machine)


def check_grown(machine: Machine, before: Room) -> None:
    """The root has all that the disk grew by and no more, and the service has nothing left to do."""
    machine.wait_for_unit("bootc-grow-root.service")
    now = Room.of(machine)
    # The first time, what was less than an extent comes in too.
    assert GIB <= now.volume - before.volume <= GIB + _EXTENT
    assert now.filesystem - before.filesystem > GIB * 0.9
    assert (now.free_extents, now.tags) == (before.free_extents, "")
    machine.succeed("systemctl restart bootc-grow-root")
    assert Room.of(machine) == now
    machine.succeed("vgck vg && pvck /dev/vda4")
    assert "No errors detected" in machine.succeed("sfdisk --verify /dev/vda")
    assert machine.failed_units() == []


@pytest.mark.long
def test_a_root_on_a_volume_grows_by_what_its_disk_grew_whatever_cuts_it_short(
    make_disk: Callable[[str], Path], bootc_vm: MachineFactory
) -> None:
    disk = make_disk(GROWING)
    machine = bootc_vm(disk, boot=False)
    machine.spec = replace(machine.spec, disks=(Disk.open(disk, persist=True),))
    machine.boot()
    machine.wait_for_unit("bootc-grow-root.service")
    first = Room.of(machine)
    assert (first.free_extents, first.tags, first.changes) == (0, "", 1)
    assert said(machine) == []
    # The mark is for grow-root alone.
    assert machine.succeed("systemctl list-units --all --no-legend 'systemd-growfs*'") == ""
    # Somebody wants free extents.
    machine.succeed("swapoff -a && sed -i '/ swap /d' /etc/fstab && lvremove --yes vg/swap")
    before = Room.of(machine)
    assert before.free_extents == _SWAP_EXTENTS

    larger_disk(machine)
    at_cut = grow_until(machine, "pvchange")
    assert int(machine.succeed("blockdev --getsize64 /dev/vda4")) > before.volume + GIB
    assert replace(at_cut, filesystem=before.filesystem) == before
    machine.succeed("sync")
    machine.power_cut()
    machine.boot()
    check_grown(machine, before)
    [grown] = [line for line in said(machine) if "growing" in line]
    assert grown.startswith("growing vg/system by 25")

    before = Room.of(machine)
    larger_disk(machine)
    # LVM has nowhere to keep copies of its metadata: the very moment when a disk gets larger.
    machine.succeed("fallocate --length $(($(stat --file-system --format '%a*%S' /var))) /var/full")
    machine.fail("cat /dev/zero > /var/fuller")
    assert grow_until(machine, "partx").changes == before.changes
    assert "bootc-grow-root.from." in grow_until(machine, "pvresize").tags
    assert grow_until(machine, "lvextend").free_extents >= before.free_extents + 256
    at_cut = grow_until(machine, "pvchange", "*--deltag*")
    assert at_cut.volume >= before.volume + GIB
    assert at_cut.free_extents == before.free_extents
    assert "bootc-grow-root.from." in at_cut.tags
    machine.succeed("rm /var/full* && sync")
    machine.power_cut()
    machine.boot()
    check_grown(machine, before)

    # What it does not know, it leaves alone, all of it.
    before = Room.of(machine)
    larger_disk(machine)
    machine.succeed("lvcreate --snapshot --extents 4 --name kept vg/system")
    kept = Room.of(machine)
    machine.succeed("systemctl start bootc-grow-root")
    assert Room.of(machine) == kept
    [why] = said(machine)
    assert why.startswith("vg/system is no plain linear volume (public,origin")
    machine.succeed("lvremove --yes vg/kept && systemctl restart bootc-grow-root")
    check_grown(machine, before)


@pytest.mark.long
@pytest.mark.parametrize("filesystem", ["btrfs", "xfs"])
def test_other_file_systems_on_a_volume_grow_at_the_first_boot(
    filesystem: str, bootc_vm: MachineFactory, tmp_path: Path
) -> None:
    # mkfs.btrfs of Debian 12 wants far more than it fills.
    configuration = f"""
        size: 4 GiB
        volume-group: {{name: vg}}
        root: {{volume: system, filesystem: {filesystem}}}
    """
    disk = disk_of(newest_base_image(), configuration, tmp_path)
    made = disk.stat().st_size
    enlarge(disk)
    machine = bootc_vm(disk)
    machine.wait_for_unit("bootc-grow-root.service")
    assert machine.succeed("findmnt -no FSTYPE /sysroot").strip() == filesystem
    now = Room.of(machine)
    assert (now.free_extents, now.tags) == (0, "")
    # Beside it are /boot and the EFI system partition.
    assert now.volume > made + GIB - 1200 * MIB
    assert now.filesystem > now.volume * 0.95
    assert machine.failed_units() == []
    # As docs/disk.md says it.
    machine.succeed("sfdisk --part-attrs /dev/vda 4 '' && systemctl restart bootc-grow-root")
    assert said(machine)[-1] == "/dev/vda4 is not marked to grow: nothing to do"
    machine.succeed("sfdisk --part-attrs /dev/vda 4 GUID:59 && systemctl restart bootc-grow-root")
    assert machine.succeed("sfdisk --part-attrs /dev/vda 4") == "GUID:59\n"
