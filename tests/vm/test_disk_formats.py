"""Every type of disk, written from a guest of 512 bytes and booted: firmware and QEMU read what was written."""

import tarfile
from pathlib import Path

import pytest

from bootc_build.disk.formats import Compression, DiskType, FormatOptions, write_formats
from bootc_build.disk.identity import Identity
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, DiskBus, MachineSpec
from tests.vm.boot_sectors import write_guest

_TCG = Acceleration(Accelerator.TCG, 1.0)
# The disk within the archive.
_INSIDE = {DiskType.GCE: "disk.raw", DiskType.OVA: "os.vmdk"}


def write_type(kind: DiskType, folder: Path, text: str) -> Path:
    """A disk file of a type that prints a text when it is booted; taken out of its archive."""
    raw = write_guest(folder / "guest.raw", text)
    with raw.open("r+b") as content:
        content.truncate(2**26)  # with holes, as disks have them
    options = FormatOptions((kind,), "os", Compression.ZSTD, Identity("seed"), 1)
    out = folder / "out"
    out.mkdir()
    file = write_formats(raw, out, options, Silent())[kind]
    if (name := _INSIDE.get(kind)) is None:
        return file
    with tarfile.open(file) as archive:
        assert name in archive.getnames()
    run(["tar", "--extract", "--file", str(file), "--directory", str(folder), name])
    return folder / name


@pytest.mark.parametrize(
    ("kind", "bus"),
    [
        *((kind, DiskBus.VIRTIO) for kind in DiskType if kind is not DiskType.AMI),
        (DiskType.AMI, DiskBus.NVME),  # as EC2 attaches it
    ],
)
def test_it_boots(kind: DiskType, bus: DiskBus, tmp_path: Path) -> None:
    disk = Disk.open(write_type(kind, tmp_path, f"booted from {kind}\n"))
    spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False, disk_bus=bus)
    folder = tmp_path / "machine"
    folder.mkdir()
    with Machine(spec, acceleration=_TCG, folder=folder) as machine:
        machine.start()
        machine.wait_for_console_text(f"booted from {kind}", seconds=60)
