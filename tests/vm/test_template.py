"""First boots that fail through no fault of the guest."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.errors import ConsoleBadnessError, EmulatorCrashError
from bootc_build.vm.machine import BOOT_SECONDS, Machine
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.snapshot import snapshot_shelf
from bootc_build.vm.spec import Disk, MachineSpec
from bootc_build.vm.template import bring_up
from tests.vm.boot_sectors import write_guest

_PANIC = "[    0.1] Kernel panic - not syncing: {}\n[    0.2] CPU: 0\n"


class CrashingMachine(Machine):
    """Its QEMU aborts in the first boots; in the one after them there is a shell as soon as it prints."""

    crashes = 1
    boots = 0

    def wait_for_shell(self, *, seconds: float = BOOT_SECONDS) -> None:
        """As of any machine, with a QEMU that fails."""
        self.boots += 1
        self.wait_for_console_text("Hello", seconds=30)
        if self.boots <= self.crashes:
            os.kill(self.qemu.process_id, signal.SIGABRT)
            super().wait_for_shell(seconds=seconds)


class Bench:
    """Makes machines of a boot sector, with a record."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.shelf = snapshot_shelf(folder=folder / "snapshots")

    def machine(
        self,
        text: str,
        *,
        kind: type[Machine] = Machine,
        accelerator: Accelerator = Accelerator.TCG,
        persist: bool = False,
    ) -> Machine:
        """A machine that is off."""
        disk = Disk.open(write_guest(self._folder / "guest.raw", text), persist=persist)
        spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False)
        record = MachineRecord(self._folder / "cast", self._folder / "qmp", title="guest")
        machine = kind(
            spec,
            acceleration=Acceleration(accelerator, 1.0),
            folder=self._folder,
            record=self._stack.enter_context(record),
        )
        return self._stack.enter_context(machine)

    def marks(self) -> list[str]:
        """What the record says of boots that were begun once more."""
        events = [json.loads(line) for line in (self._folder / "cast").read_text().splitlines()]
        said = [event[2] for event in events[1:] if event[1] == "m"]
        return [text for text in said if "once more" in text]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, tmp_path)


def test_a_qemu_that_aborts_is_started_once_more(bench: Bench) -> None:
    machine = bench.machine("Hello\n", kind=CrashingMachine)
    bring_up(machine, bench.shelf, cold=True)
    assert machine.qemu.alive
    assert len(bench.marks()) == 1


def test_a_qemu_that_aborts_again_is_told(bench: Bench) -> None:
    machine = bench.machine("Hello\n", kind=CrashingMachine)
    assert isinstance(machine, CrashingMachine)
    machine.crashes = 2
    with pytest.raises(EmulatorCrashError, match="killed by signal 6"):
        bring_up(machine, bench.shelf, cold=True)
    assert machine.boots == 2


def test_a_machine_that_writes_to_its_users_disk_is_not_started_again(bench: Bench) -> None:
    machine = bench.machine("Hello\n", kind=CrashingMachine, persist=True)
    with pytest.raises(EmulatorCrashError):
        bring_up(machine, bench.shelf, cold=True)
    assert bench.marks() == []


@pytest.mark.parametrize(
    ("words", "boots_again"), [("IO-APIC + timer doesn't work!", 1), ("No working init found.", 0)]
)
def test_only_the_panic_of_a_starved_emulation_is_tried_again(
    words: str, boots_again: int, bench: Bench
) -> None:
    machine = bench.machine(_PANIC.format(words))
    with pytest.raises(ConsoleBadnessError):
        bring_up(machine, bench.shelf, cold=True)
    assert len(bench.marks()) == boots_again
