"""What machines cost their tests: twenty tests against one boot, a restore, a command, the harness itself.

Measured on one image with one kind of machine, whose snapshot is made anew first. Not by pairs: a boot takes so
long that other things on the computer even out.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.__main__ import Settings
from benchmarks.measure import measure
from benchmarks.twenty_tests import COUNT, IMAGE_VARIABLE, NAME_VARIABLE
from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.vm.accel import find_acceleration
from bootc_build.vm.login import reach_shell
from bootc_build.vm.machine import Machine
from bootc_build.vm.shell import GuestShell
from bootc_build.vm.snapshot import snapshot_key, snapshot_shelf
from bootc_build.vm.spec import Disk, MachineSpec
from bootc_build.vm.template import bring_up

_RESTORES = 5
_COMMANDS = 20
_SHELL_SECONDS = 60.0


@dataclass(frozen=True)
class Figure:
    """Something that was measured, against what it may be at most.

    Args:
        name: what it is.
        value: of it; the median where it was measured more than once.
        at_most: the target.
        unit: of both; none for a ratio.
        details: how it came about.
    """

    name: str
    value: float
    at_most: float
    unit: str = ""
    details: str = field(default="")

    def __str__(self) -> str:
        verdict = "met" if self.value <= self.at_most else "MISSED"
        unit = f" {self.unit}" if self.unit else ""
        details = f"; {self.details}" if self.details else ""
        return f"{self.name}: {self.value:.2f}{unit} (target <= {self.at_most:g}{unit}, {verdict}{details})"


def measure_all(settings: Settings) -> Iterator[Figure]:
    """Six figures; two boots and some thirty restores."""
    spec = MachineSpec(
        disks=(Disk.open(cached_disk(settings.image, Silent())),), name=Path(settings.image).name
    )
    with _machine(spec) as machine:
        cold = _seconds(lambda: bring_up(machine, snapshot_shelf(), cold=True))
    snapshot_shelf().discard(snapshot_key(spec, find_acceleration()))
    total, whole, commands = _twenty_tests(settings, spec.name)
    yield Figure(
        f"{COUNT} small tests / one cold boot",
        total / cold,
        2.5,
        details=f"{total:.1f}/{cold:.1f} s, the snapshot's own boot and pytest's start included",
    )
    restores, lane, serial = _restored(spec)
    yield _median("restore to a working prompt", restores, 2)
    yield _median("command round trip on the virtio serial port", lane, 0.3)
    yield _median("command round trip on ttyS0", serial, 1)
    # The first test made the snapshot.
    restore = statistics.median(restores)
    own = [test - restore - command for test, command in zip(whole[1:], commands[1:], strict=True)]
    yield _median("the harness's own cost for a test, besides restore and command", own, 1)
    yield _median("bootc-build run --snapshot IMAGE -- true, from start to end", _runs(settings), 2)


def _twenty_tests(settings: Settings, name: str) -> tuple[float, list[float], list[float]]:
    """Seconds of the whole run; of each test, from its setup to its teardown; of each test's command."""
    junit = settings.scratch / "junit.xml"
    test = Path(__file__).with_name("twenty_tests.py")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={junit}"]
    # Nobody is to be waited for: what is measured has the computer for itself.
    argv += ["--bootc-slots=99"]
    argv += ["-o", "junit_family=xunit1"]  # The other has no place for a test's properties.
    argv += [f"--bootc-artifacts={settings.scratch / 'artifacts'}", str(test)]
    environment = {IMAGE_VARIABLE: settings.image, NAME_VARIABLE: name}
    total = _seconds(lambda: run(argv, env=environment))
    cases = list(ET.parse(junit).iter("testcase"))  # noqa: S314 - pytest's own
    properties = [case.findall(".//property[@name='command']") for case in cases]
    return (
        total,
        [float(case.get("time", "nan")) for case in cases],
        [float(command.get("value", "nan")) for [command] in properties],
    )


def _restored(spec: MachineSpec) -> tuple[list[float], list[float], list[float]]:
    """Seconds of restores; of commands on the virtio serial port; of commands on ttyS0."""
    restores, lane, serial = [], [], []
    for _ in range(_RESTORES):
        # What it is restored from may go only after the machine.
        with ExitStack() as holds, _machine(spec) as machine:
            begun = time.monotonic()
            snapshot = bring_up(machine, snapshot_shelf())
            restores.append(time.monotonic() - begun)
            if snapshot is not None:
                holds.enter_context(snapshot)
            lane += [_seconds(lambda: machine.succeed("true")) for _ in range(_COMMANDS)]
            serial += _on_serial_console(machine)
    return restores, lane, serial


def _on_serial_console(machine: Machine) -> list[float]:
    """The same commands to the shell on ttyS0, where credentials have logged root in as well."""
    scale = machine.acceleration.time_scale
    limit = machine.seconds(_SHELL_SECONDS)
    machine.console.send("\n")
    reach_shell(machine.console, login=None, seconds=limit, time_scale=scale)
    shell = GuestShell(machine.console, time_scale=scale)
    shell.prepare(seconds=limit)
    return [_seconds(lambda: shell.run("true", seconds=limit)) for _ in range(_COMMANDS)]


def _runs(settings: Settings) -> list[float]:
    program = Path(sys.executable).with_name("bootc-build")
    argv = [str(program), "run", "--cpus", str(MachineSpec.cpus), "--snapshot"]
    argv += [settings.image, "--", "true"]
    return [measure(argv, settings.scratch / "log").wall for _ in range(_RESTORES)]


@contextmanager
def _machine(spec: MachineSpec) -> Iterator[Machine]:
    with Machine(spec, folder=Path(os.environ["TMPDIR"])) as machine:
        yield machine


def _median(name: str, seconds: list[float], at_most: float) -> Figure:
    spread = f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f} s"
    return Figure(name, statistics.median(seconds), at_most, "s", spread)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun
