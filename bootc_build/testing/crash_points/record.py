"""Record what a machine writes while it upgrades, restarts, goes back and cleans up.

A recording is a folder: `base.raw`, the disk before the first write (sparse); `writes.log`; and `recording.json`, with
the transactions as parts of the log and what is known of the machine. It can be explored again and again.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Progress, Silent
from bootc_build.testing.crash_points.explore import Transaction
from bootc_build.testing.crash_points.write_log import WriteLog
from bootc_build.vm import block
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.slots import Slots
from bootc_build.vm.snapshot import snapshot_shelf
from bootc_build.vm.spec import Disk, Firmware, MachineSpec
from bootc_build.vm.template import bring_up
from bootc_build.vm.waiting import wait_until

FOLLOWS = f"{GUEST_NAME}/os:stable"
_TAG = "os:stable"
_KEPT = "/var/lib/crash-points/kept"
_UPGRADE_SECONDS = 900.0
_RESTART_SECONDS = 300.0


@dataclass(frozen=True)
class Recording:
    """One that is finished.

    Args:
        folder: where its files are.
        transactions: parts of its log.
        kept: paths of the root file system that have to stay as they are.
        firmware: of the machine.
    """

    folder: Path
    transactions: tuple[Transaction, ...]
    kept: tuple[str, ...]
    firmware: Firmware

    @property
    def base(self) -> Path:
        """The raw disk before the first write; nobody writes to it."""
        return self.folder / "base.raw"

    def log(self) -> WriteLog:
        """The log of writes."""
        return WriteLog.open(self.folder / "writes.log")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read one.

        Raises:
            UserError: there is none in this folder.
        """
        try:
            facts = json.loads((folder / "recording.json").read_text())
            return cls(
                folder,
                tuple(Transaction(*one) for one in facts["transactions"]),
                tuple(facts["kept"]),
                Firmware(facts["firmware"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{folder}' has no recording of a machine's writes.",
                "Make one with: bootc-build test --crash-points IMAGE",
            ) from error

    def save(self) -> None:
        """Write what `open` reads."""
        facts = {
            "transactions": [[one.name, one.start, one.stop] for one in self.transactions],
            "kept": self.kept,
            "firmware": self.firmware.value,
        }
        (self.folder / "recording.json").write_text(json.dumps(facts, indent=1) + "\n")


class Recorder:
    """The writes of a machine that runs, with marks between transactions.

    Args:
        machine: it runs, and `start` puts the log between it and its first disk.
        folder: gets the files.
    """

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine = machine
        self._folder = folder
        self._log = folder / "writes.log"
        self._marks: list[tuple[str, int]] = []

    def start(self) -> None:
        """Copy the disk and note every write from now on."""
        self._machine.succeed("sync")
        copy = self._folder / "base.qcow2"
        qemu = self._machine.qemu
        with qemu.stopped():
            run(["cp", "--sparse=always", str(qemu.disks[0].path), str(copy)])
            qemu.put_filter(0, block.WriteLog(self._log), "recorded")
        run(["qemu-img", "convert", "-O", "raw", str(copy), str(self._folder / "base.raw")])
        copy.unlink()

    def begin(self, transaction: str) -> None:
        """What is written from now on belongs to this transaction."""
        self._marks.append((transaction, self._log.stat().st_size))

    def restart(self, then: str) -> None:
        """Restart the guest in good order; what is written from the reset on belongs to another transaction.

        Args:
            then: its name.
        """
        machine = self._machine
        events = machine.qemu.monitor.events

        def resets() -> int:
            return sum(event.get("event") == "RESET" for event in events)

        before = resets()
        with machine.expect_reboot():
            machine.begin("systemctl reboot")
            limit = machine.seconds(_RESTART_SECONDS)
            if not wait_until(lambda: resets() > before, seconds=limit, first_interval=0.02):
                raise UserError(f"The guest did not restart within {limit:.0f} seconds.")
            self.begin(then)
        machine.succeed("systemctl is-system-running --wait || true", seconds=300)
        machine.succeed("sync")

    def finish(self, kept: tuple[str, ...]) -> Recording:
        """The recording; nothing is noted any more."""
        self.begin("")
        log = WriteLog.open(self._log)
        counts = [(name, log.count_at(size)) for name, size in self._marks]
        transactions = tuple(
            Transaction(name, start, stop)
            for (name, start), (_, stop) in itertools.pairwise(counts)
            if name
        )
        recording = Recording(self._folder, transactions, kept, self._machine.spec.firmware)
        recording.save()
        return recording


@contextmanager
def running_machine(image: str, firmware: Firmware, folder: Path) -> Iterator[Machine]:
    """A machine of an image, which follows the tests' registry.

    Args:
        image: in local storage.
        firmware: of the machine.
        folder: gets its console log.
    """
    disk = cached_disk(image, Silent(), target=ImageReference.parse_cli(FOLLOWS))
    # The name is part of a snapshot's key: with that of the tests' first machines, their snapshot serves here, too.
    spec = MachineSpec(disks=(Disk.open(disk),), name="machine1", firmware=firmware)
    with ExitStack() as stack:
        stack.enter_context(
            Slots().claimed("crash points", cpus=spec.cpus, memory_mib=spec.memory_mib)
        )
        holds = stack.enter_context(ExitStack())
        machine = stack.enter_context(Machine(spec, log=folder / "console.log", folder=folder))
        if (snapshot := bring_up(machine, snapshot_shelf())) is not None:
            holds.enter_context(snapshot)
        yield machine


def record(
    image: str, upgrade_to: str, folder: Path, *, firmware: Firmware, progress: Progress
) -> Recording:
    """Record a machine of an image: upgrade, first boot, rollback, clean-up.

    Args:
        image: in local storage.
        upgrade_to: another.
        folder: an empty one, with room for the disk and all that is written.
        firmware: of the machine.
        progress: who listens.
    """
    with Registry() as registry, running_machine(image, firmware, folder) as machine:
        registry.push(upgrade_to, _TAG)
        registry.configure(machine, GUEST_NAME)
        kept = _leave_something(machine)
        recorder = Recorder(machine, folder)
        recorder.start()
        recorder.begin("upgrade")
        progress.step("Recording: upgrade, until the machine restarts")
        machine.bootc.upgrade(seconds=_UPGRADE_SECONDS)
        recorder.restart(then="first boot")
        progress.step("Recording: rollback, until the machine restarts")
        recorder.begin("rollback")
        machine.bootc.rollback()
        recorder.restart(then="boot of the old system")
        progress.step("Recording: clean-up")
        recorder.begin("clean-up")
        machine.succeed("ostree admin undeploy 1 && bootc internals cleanup && sync", seconds=600)
        recording = recorder.finish(kept)
        machine.power_cut()
    return recording


def _leave_something(machine: Machine) -> tuple[str, ...]:
    """Something of the owner's in /etc and /var; the paths that have to stay, on the root file system."""
    machine.succeed(
        f"mkdir -p $(dirname {_KEPT}) && echo kept > {_KEPT} && echo kept > /etc/crash-points && sync"
    )
    stateroot = machine.succeed("ls /sysroot/ostree/deploy").split()[0]
    return (f"/ostree/deploy/{stateroot}{_KEPT}",)
