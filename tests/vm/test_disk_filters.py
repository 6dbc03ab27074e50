"""What stands between a guest and its disk, in a real QEMU: a guest that writes a sector when it is told to."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.block import IoError, IoErrors, Operation, WriteLog
from bootc_build.vm.machine import Machine
from bootc_build.vm.run import NO_SPACE
from bootc_build.vm.spec import Disk, DiskFormat, MachineSpec
from tests.vm.boot_sectors import WRITE, write_guest

_FULL = IoErrors((IoError(Operation.WRITE, errno.ENOSPC),))
# Of dm-log-writes: the superblock's magic number; an entry's sector, number of sectors and flags.
_LOG_MAGIC = (0x6A736677736872).to_bytes(8, "little")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield from _machine(tmp_path)


def _machine(tmp_path: Path, *filters: WriteLog) -> Iterator[Machine]:
    guest = write_guest(tmp_path / "guest.raw", "Ready\n", WRITE)
    disk = Disk(guest, DiskFormat.RAW, filters=filters)
    spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False)
    with Machine(spec, acceleration=Acceleration(Accelerator.TCG, 1.0), folder=tmp_path) as one:
        yield one


def _start(machine: Machine) -> None:
    machine.start()
    machine.wait_for_console_text("Ready", seconds=60)


def _write(machine: Machine) -> str:
    machine.console.send("w")
    return machine.console.read_line(60).decode().strip()[-1]


def _entries(log: bytes) -> list[tuple[int, int]]:
    """(sector, number of sectors) of each entry of a log of sectors of 512 bytes."""
    assert log[:8] == _LOG_MAGIC
    count = int.from_bytes(log[16:24], "little")
    entries, at = [], 512
    for _ in range(count):
        sector, length = (int.from_bytes(log[at + n : at + n + 8], "little") for n in (0, 8))
        entries.append((sector, length))
        at += 512 * (1 + length)
    return entries


def test_a_write_log_has_what_the_guest_wrote(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for machine in _machine(tmp_path, WriteLog(log)):
        _start(machine)
        machine.console.expect_exact(b"\n", timeout=30)
        assert [_write(machine), _write(machine)] == ["+", "+"]
        machine.power_cut()
    assert [entry for entry in _entries(log.read_bytes()) if entry[1]] == [(1, 1), (1, 1)]


def test_a_log_can_begin_and_end_while_the_guest_runs(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    _start(machine)
    machine.console.expect_exact(b"\n", timeout=30)
    assert _write(machine) == "+"
    with machine.disk_filtered(WriteLog(log)):
        assert _write(machine) == "+"
    assert _write(machine) == "+"
    assert [entry for entry in _entries(log.read_bytes()) if entry[1]] == [(1, 1)]


def test_a_disk_fails_for_as_long_as_it_is_told_to(machine: Machine) -> None:
    _start(machine)
    machine.console.expect_exact(b"\n", timeout=30)
    with machine.disk_filtered(_FULL):
        assert _write(machine) == "-"
        with machine.disk_filtered(WriteLog(machine.log_path.with_name("log"))):
            assert _write(machine) == "-"
    assert _write(machine) == "+"
    # That it had no room was what the test asked for, not trouble of this computer's.
    assert any(
        event.get("data", {}).get("reason") in NO_SPACE for event in machine.qemu.monitor.events
    )
    machine.console.check(now=True)


def test_the_disk_of_a_running_machine_can_be_copied(machine: Machine, tmp_path: Path) -> None:
    _start(machine)
    machine.console.expect_exact(b"\n", timeout=30)
    assert _write(machine) == "+"
    machine.copy_disk(tmp_path / "copy.qcow2")
    copy = Disk.open(tmp_path / "copy.qcow2")
    assert copy.format is DiskFormat.QCOW2
    sector = (tmp_path / "guest.raw").read_bytes()[:510]
    assert sector in copy.path.read_bytes()
    assert _write(machine) == "+"


def test_the_machine_may_end_while_its_disk_fails(machine: Machine) -> None:
    _start(machine)
    with machine.disk_filtered(_FULL):
        machine.power_cut()
    _start(machine)
    machine.console.expect_exact(b"\n", timeout=30)
    assert _write(machine) == "+"
