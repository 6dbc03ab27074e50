"""A system on logical volumes, written without the device mapper: it boots, and LVM's programs manage it."""

from pathlib import Path

import pytest

from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from test_vms.example_os import FOLLOWS, Versions
from test_vms.os_images import PROJECT, build

CONFIGURATION = """
volume-group: {name: vg}
root: {volume: system, size: 4 GiB}
swap: {volume: swap, size: 64 MiB}
filesystems: [{mountpoint: /var/data, size: 99 MiB, volume: data}]
size: 7 GiB
"""


@pytest.mark.long
def test_a_system_on_logical_volumes_boots_and_its_volumes_can_be_managed(
    versions: Versions, bootc_vm: MachineFactory, tmp_path: Path
) -> None:
    image = build(
        "volumes",
        PROJECT / "test_vms/volumes/Containerfile",
        arguments=[("EXAMPLE", versions.one)],
    )
    request = DiskRequest(
        image,
        [DiskType.RAW],
        tmp_path,
        target=parse_target(FOLLOWS),
        configuration=disk_configuration(parse_document(CONFIGURATION, ".yaml", "test"), "test"),
        manifest=False,
    )
    [disk] = build_disk(request, Silent())
    machine = bootc_vm(disk.path)
    assert machine.failed_units() == []
    for point, volume in (("/sysroot", "system"), ("/var/data", "data")):
        found = machine.succeed(f"findmnt --noheadings --output SOURCE {point}")
        assert found == f"/dev/mapper/vg-{volume}\n"
    assert machine.succeed("swapon --noheadings --show=SIZE").strip() == "64M"
    machine.succeed("vgck vg && pvck /dev/vda4")
    listed = machine.succeed("lvs --noheadings --options lv_name,lv_size --units m vg")
    assert [line.split() for line in listed.splitlines()] == [
        ["data", "100.00m"],
        ["swap", "64.00m"],
        ["system", "4096.00m"],
    ]
    # LVM writes the metadata anew: what was written before has to be understood for that.
    machine.succeed("lvextend --resizefs --size +40M vg/data && lvcreate --size 8M --name more vg")
    assert int(machine.succeed("findmnt -bno SIZE /var/data")) > 110 * 2**20
    machine.succeed("bootc kargs --append=after.change=yes")
    machine.reboot()
    assert machine.failed_units() == []
    assert "after.change=yes" in machine.read("/proc/cmdline")
    assert "more" in machine.succeed("lvs --noheadings --options lv_name vg")
