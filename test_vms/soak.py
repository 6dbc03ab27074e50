"""Upgrades and rollbacks in turn, with power cuts and other faults at random moments, for as long as one likes.

    ./dev soak --seed 7 --minutes 240

One machine goes back and forth between two images. At seeded moments its power is cut: most cuts are copies of its disk,
during upgrades, rollbacks, shutdowns and boots, which are looked at as crash points are and cost seconds; some are real,
and the machine boots again. Every second upgrade or rollback meets another fault, too: its programs are killed, memory,
disk or /boot are exhausted, the network or the registry fails; where it ends with an error, it is tried again without.
After each step: the machine runs one of the two, what the owner left is there, `ostree fsck` is clean, and the space in
use does not grow.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bootc_build.onhost.interruption import unwind_on_signals
from bootc_build.onhost.process import run
from bootc_build.testing.crash_points.explore import look_at_disk
from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.crash_points.record import running_machine
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.faults import REGISTRY_FAULTS
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.spec import Firmware
from bootc_build.vm.waiting import wait_until
from test_vms.fault_cells import FAULTS, Phase

_KEPT = "/var/lib/soak/kept"
_TAG = "os:stable"
_UPGRADE_SECONDS = 1200.0
# A deployment or an image that is not removed takes more. Journals do not count: each power cut costs one of 8 MiB.
_GROWTH_MIB = 64
_CUTS_A_PHASE = 12
# An upgrade of the tests' Debian has some hundred requests for writes, and so have a shutdown and a boot.
_WRITES_BETWEEN = 12
_QUIET_SECONDS = 10.0
_REAL_CUTS = 0.25
_ROLLBACKS = 0.3
_FAULTS = 0.5
_UNIT = Phase(when="true", unit="soak")
_ANY_TIME = ("kill-everything", "out-of-memory", "disk-full", "boot-full")
_WHILE_FETCHING = (
    *("kill-fetcher", "link-cut"),
    *(name for name, fault in REGISTRY_FAULTS.items() if not fault.needs_tls),
)


class ViolationError(AssertionError):
    """An invariant does not hold; the message says after which step."""


@dataclass
class Soak:
    """The machine, and what has been done to it.

    Args:
        machine: it runs.
        registry: that it follows.
        images: it goes back and forth between.
        seed: of all that is random.
        say: gets a line for each step.
        cuts_a_phase: power cuts during one upgrade or rollback, and during one restart, at most.
        fault_share: of the upgrades and rollbacks, how many meet a fault other than power cuts.
    """

    machine: Machine
    registry: Registry
    images: Sequence[str]
    seed: int
    say: Callable[[str], None]
    cuts_a_phase: int = _CUTS_A_PHASE
    fault_share: float = _FAULTS
    steps: int = 0
    faults: int = 0
    cuts: int = 0
    real_cuts: int = 0
    _used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable
        self._next = 0
        self._offered = ""
        self._commits: set[str] = set()

    def begin(self) -> None:
        """Leave something of the owner's."""
        self.registry.configure(self.machine, GUEST_NAME)
        self.machine.succeed(
            f"mkdir -p $(dirname {_KEPT}); echo kept | tee {_KEPT} >/etc/kept; sync"
        )
        self._commits.add(str(self.machine.bootc.booted.checksum))

    def step(self) -> None:
        """An upgrade to the other image or a rollback, with cuts in the middle, and a restart."""
        goes_back = self.steps > 0 and self._random.random() < _ROLLBACKS
        what = "rollback" if goes_back else "upgrade"
        if goes_back and self.machine.bootc.status().rollback is not None:
            what += self._try("bootc rollback", _ANY_TIME)
        else:
            what = f"upgrade{self._upgrade()}"
        self._cut_copy()
        if self._random.random() < _REAL_CUTS:
            what += ", power cut, boot"
            self.real_cuts += 1
            self.cuts += 1
            self.machine.power_cut()
            self.machine.boot()
        else:
            what += ", restart"
            with self.machine.expect_reboot():
                self.machine.begin("systemctl reboot")
                self._cut_copies()
        self.steps += 1
        self._check(what)

    def _upgrade(self) -> str:
        self._next = 1 - self._next
        self._offered = self.registry.push(self.images[self._next], _TAG)
        met = self._try("bootc upgrade", (*_ANY_TIME, *_WHILE_FETCHING))
        staged = self.machine.bootc.status().staged
        if staged is not None:
            self._commits.add(str(staged.checksum))
        return met

    def _try(self, command: str, faults: Sequence[str]) -> str:
        """Change what boots next, against a fault perhaps; what there was of it, for people."""
        if self._random.random() >= self.fault_share:
            result = self._run(command)
            self._promise(result == "success", f"'{command}' ended with {result}")
            return ""
        fault = self._random.choice(faults)
        self.faults += 1
        result = self._run(command, fault)
        booted = str(self.machine.bootc.booted.checksum)
        self._promise(booted in self._commits, f"{booted} runs after {fault}")
        # A second rollback would take the first one back.
        upgrade_failed = command == "bootc upgrade" and result != "success"
        if upgrade_failed or not self._changed(command):
            again = self._run(command)
            self._promise(again == "success", f"after {fault} '{command}' ended with {again}")
        self._promise(self._changed(command), f"after {fault} '{command}' has changed nothing")
        return f" ({fault}: {result})"

    def _changed(self, command: str) -> bool:
        """Whether the machine has what a command is there for."""
        status = self.machine.bootc.status()
        if command == "bootc rollback":
            return status.rollback_queued
        comes = status.staged or status.booted
        return comes is not None and comes.digest == self._offered

    def _run(self, command: str, fault: str = "") -> str:
        """Run what changes the next boot, with cuts meanwhile; what systemd says of its end."""
        machine = self.machine
        if fault in REGISTRY_FAULTS:
            REGISTRY_FAULTS[fault].begin(self.registry.faults)
        machine.succeed(f"systemd-run --quiet --unit=soak --property=RemainAfterExit=yes {command}")
        if fault in FAULTS:
            self._wait_for_writes()
            FAULTS[fault].strike(machine, _UNIT)
        self._cut_copies()
        if fault == "link-cut":  # it comes back while the command still tries
            FAULTS[fault].end(machine, _UNIT)
        ended = "test $(systemctl show --property=SubState --value soak) != running"
        machine.wait_until_succeeds(ended, seconds=_UPGRADE_SECONDS)
        if fault in FAULTS and fault != "link-cut":
            FAULTS[fault].end(machine, _UNIT)
        self.registry.faults.clear()
        result = machine.succeed("systemctl show --property=Result --value soak").strip()
        machine.succeed("systemctl stop soak; systemctl reset-failed soak 2>/dev/null; true")
        return result

    def _cut_copies(self) -> None:
        """Power cuts at seeded moments, counted in writes of the guest; none where it writes no more."""
        for _ in range(self.cuts_a_phase):
            if not self._wait_for_writes():
                return
            self._cut_copy()

    def _wait_for_writes(self) -> bool:
        """Wait until the guest has written a seeded number of times; False where it writes no more."""
        at = self._writes() + self._random.randrange(1, _WRITES_BETWEEN)
        limit = self.machine.seconds(_QUIET_SECONDS)
        return wait_until(lambda: self._writes() >= at, seconds=limit, first_interval=0.01)

    def _writes(self) -> int:
        statistics = self.machine.qemu.monitor.execute("query-blockstats")
        return sum(int(one["stats"]["wr_operations"]) for one in statistics)

    def _cut_copy(self) -> None:
        """What a power cut would leave now; the guest stands still until that has been looked at."""
        self.cuts += 1
        qemu = self.machine.qemu
        with emptied(scratch_folder()) as folder, qemu.stopped():
            raw = folder / "disk.raw"
            # "-U": QEMU has the file open, and has just written everything to it.
            run(["qemu-img", "convert", "-U", "-O", "raw", str(qemu.disks[0].path), str(raw)])
            seen = look_at_disk(raw, folder, (f"/ostree/deploy/default{_KEPT}",))
        problems = [*seen.loader.problems, *seen.boot.problems, *seen.damage]
        self._promise(not problems, f"after a cut: {problems[:3]}")
        self._promise(seen.boot.counts is not None, "a cut damages the count of boots")
        self._promise(seen.started, "after a cut nothing would start")
        for one in seen.started:
            self._promise(one is not None and not one.problems, "a cut leaves no whole system")
            known = one is not None and one.commit in self._commits
            self._promise(known, "after a cut a system would start that was never staged")
        self._promise("missing" not in seen.root.kept.values(), "a cut loses a file in /var")

    def _check(self, what: str) -> None:
        machine = self.machine
        booted = str(machine.bootc.booted.checksum)
        self._promise(booted in self._commits, f"{booted} runs")
        self._promise(
            machine.read("/etc/kept") == machine.read(_KEPT) == "kept\n", "files are lost"
        )
        machine.succeed("bootc internals cleanup; ostree fsck --quiet", seconds=_UPGRADE_SECONDS)
        taken = "df --output=used -BM /sysroot | tail -n 1; du -s -BM /var/log/journal"
        whole, journal = re.findall(r"(\d+)M", machine.succeed(taken))
        used = int(whole) - int(journal)
        self._used.append(used)
        # The first rounds bring the second image.
        settled = self._used[2:]
        if settled:
            self._promise(used - settled[0] < _GROWTH_MIB, f"{used - settled[0]} MiB more are used")
        self.say(
            f"step {self.steps}: {what}: {booted[:12]} runs, {used} MiB used, {self.cuts} cuts"
        )

    def _promise(self, kept: object, what: str) -> None:
        if not kept:
            raise ViolationError(f"seed {self.seed}, step {self.steps + 1}: {what}")


@contextmanager
def prepared(
    one: str, two: str, seed: int, say: Callable[[str], None], firmware: Firmware = Firmware.BIOS
) -> Iterator[Soak]:
    """A soak that may begin: the machine runs the first image."""
    with ExitStack() as stack:
        folder = stack.enter_context(emptied(scratch_folder()))
        other = stack.enter_context(with_another_initramfs(two))
        registry = stack.enter_context(Registry())
        machine = stack.enter_context(running_machine(one, firmware, folder))
        soak = Soak(machine, registry, (one, other), seed, say)
        soak.begin()
        yield soak


def main() -> int:
    """Soak until the time is over; 1 if an invariant did not hold."""
    from test_vms.os_images import base_image, build_version  # noqa: PLC0415 - builds take time to import

    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--cuts", type=int, help="end after so many power cuts, if that is earlier")
    parser.add_argument("--firmware", type=Firmware, choices=tuple(Firmware), default=Firmware.BIOS)
    args = parser.parse_args()
    unwind_on_signals()

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    say(f"seed {args.seed}")
    deadline = time.monotonic() + 60 * args.minutes

    def over(soak: Soak) -> bool:
        enough = args.cuts is not None and soak.cuts >= args.cuts
        return soak.steps > 0 and (enough or time.monotonic() >= deadline)

    base = base_image()
    images = (build_version(base, "1"), build_version(base, "2"))
    with prepared(*images, args.seed, say, args.firmware) as soak:
        try:
            while not over(soak):
                soak.step()
        except ViolationError as violation:
            say(f"VIOLATED: {violation}")
            return 1
        say(
            f"{soak.steps} steps, {soak.cuts} power cuts ({soak.real_cuts} of them real), "
            f"{soak.faults} other faults, 0 violations"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
