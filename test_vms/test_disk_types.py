"""Every type of disk that QEMU can boot, or that holds one that it can, boots: all from one build."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from test_vms.example_os import FOLLOWS, Versions

# EC2's has a test of its own, with what it finds there (test_ec2.py).
_TYPES = tuple(kind for kind in DiskType if kind is not DiskType.AMI)


@pytest.fixture(scope="module")
def disks(versions: Versions, tmp_path_factory: pytest.TempPathFactory) -> Mapping[DiskType, Path]:
    """Files of all types of one build."""
    folder = tmp_path_factory.mktemp("types")
    request = DiskRequest(versions.one, _TYPES, folder, name="os", target=parse_target(FOLLOWS))
    return {disk.type: disk.path for disk in build_disk(request, Silent())}


def unpacked(kind: DiskType, file: Path, folder: Path) -> Path:
    """The disk itself, out of the archive where it is in one."""
    inside = {DiskType.GCE: "disk.raw", DiskType.OVA: "os.vmdk"}.get(kind)
    if inside is None:
        return file
    run(["tar", "--extract", "--file", str(file), "--directory", str(folder), inside])
    return folder / inside


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "firmware"),
    [
        (DiskType.RAW, "bios"),
        (DiskType.QCOW2, "uefi-secure"),
        (DiskType.VMDK, "bios"),
        (DiskType.VHD, "uefi"),
        (DiskType.GCE, "uefi"),
        (DiskType.OVA, "uefi"),
    ],
)
def test_it_boots(
    kind: DiskType,
    firmware: str,
    disks: Mapping[DiskType, Path],
    bootc_vm: MachineFactory,
    tmp_path: Path,
) -> None:
    machine = bootc_vm(unpacked(kind, disks[kind], tmp_path), firmware=firmware, cold=True)
    assert machine.bootc.booted.image == FOLLOWS
    assert machine.failed_units() == []
