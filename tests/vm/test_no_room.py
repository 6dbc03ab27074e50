"""A machine whose files find no room on this computer: the test is over at once, and the file system is named."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.argv import MemoryFile
from bootc_build.vm.block import WriteLog
from bootc_build.vm.errors import ConsoleBadnessError, EmulatorCrashError, MachineDiedError
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, DiskFormat, MachineSpec
from tests.vm.boot_sectors import WRITE, write_guest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _fill(place: Path) -> None:
    with suppress(OSError), (place / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def _machine(folder: Path, tmp_path: Path, *filters: WriteLog) -> Machine:
    disk = Disk(
        write_guest(tmp_path / "guest.raw", "Ready\n", WRITE), DiskFormat.RAW, False, filters
    )
    spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False, name="small")
    return Machine(spec, acceleration=Acceleration(Accelerator.TCG, 1.0), folder=folder)


def test_a_disk_that_cannot_grow_is_told_at_once(small: Path, tmp_path: Path) -> None:
    with _machine(small, tmp_path) as machine:
        machine.start()
        machine.wait_for_console_text("Ready", seconds=60)
        _fill(small)
        machine.console.send("w")
        begun = time.monotonic()
        with pytest.raises(ConsoleBadnessError, match=rf"file system of '{small}/.*' .* is full"):
            machine.wait_for_console_text("never", seconds=20)
        assert time.monotonic() - begun < 30
        # What the guest made of it is there as well, although the log had no room either.
        assert "-" in machine.console.tail()


def test_a_log_of_writes_that_cannot_grow_is_told_at_once(small: Path, tmp_path: Path) -> None:
    with _machine(tmp_path, tmp_path, WriteLog(small / "log")) as machine:
        machine.start()
        machine.wait_for_console_text("Ready", seconds=60)
        _fill(small)
        machine.console.send("w")
        with pytest.raises(ConsoleBadnessError, match=f"file system of '{small}' .* is full"):
            machine.wait_for_console_text("never", seconds=20)


def test_memory_that_cannot_grow_is_no_fault_of_the_emulator(small: Path, tmp_path: Path) -> None:
    _fill(small)
    said = f"file system of '{small}' .* is full"
    with (  # noqa: PT012 - it may end before the monitor is there, or after that
        pytest.raises(MachineDiedError, match=said) as caught,
        _machine(tmp_path, tmp_path) as machine,
    ):
        machine.start(memory=MemoryFile(small / "memory", shared=True))
        machine.wait_for_console_text("Ready", seconds=60)
    assert not isinstance(caught.value, EmulatorCrashError)
