"""``bootc status`` against ``ostree admin status``, both in a virtual machine: it is run often, also on slow hosts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.__main__ import Settings
from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.progress import Silent
from bootc_build.vm.guest import Guest
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, MachineSpec

AT_MOST = 4
_TIMES = 7
# The best of several runs each, in turn: what else the machine does meanwhile only ever adds.
_MEASURE = """
import json, subprocess, time
commands = {
    "bootc": ["bootc", "status", "--format=json"],
    "ostree": ["ostree", "admin", "status"],
}
best = dict.fromkeys(commands, 1e9)
for _ in range(%d):
    for name, command in commands.items():
        start = time.monotonic()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        best[name] = min(best[name], time.monotonic() - start)
print(json.dumps(best))
"""


@dataclass(frozen=True)
class Status:
    """Seconds of the two in one guest."""

    bootc: float
    ostree: float

    @property
    def ratio(self) -> float:
        """How many times longer ours takes."""
        return self.bootc / self.ostree

    def best_with(self, other: "Status") -> "Status":
        """The best of this and another measurement in the same guest."""
        return Status(min(self.bootc, other.bootc), min(self.ostree, other.ostree))

    def __str__(self) -> str:
        verdict = "met" if self.ratio <= AT_MOST else "MISSED"
        return (
            f"bootc status / ostree admin status, in a guest: {self.ratio:.1f} "
            f"(target <= {AT_MOST}, {verdict}; {self.bootc:.2f}/{self.ostree:.2f} s)"
        )


def compare(guest: Guest) -> Status:
    """Measure both in a guest."""
    guest.write("/var/tmp/measure.py", _MEASURE % _TIMES)
    best = json.loads(guest.succeed("python3 -I /var/tmp/measure.py"))
    return Status(best["bootc"], best["ostree"])


def measure_all(settings: Settings) -> Iterator[Status]:
    """One ratio, in a machine that was booted for it."""
    disk = Disk.open(cached_disk(settings.image, Silent()))
    with Machine(MachineSpec(name="status", disks=(disk,))) as machine:
        machine.boot()
        machine.wait_for_unit("multi-user.target")
        yield compare(machine)
