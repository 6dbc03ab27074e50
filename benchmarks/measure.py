"""Time whole processes and pair them: machines are noisy, so only ratios of neighbouring runs are quoted."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import CommandError, find_program


@dataclass(frozen=True)
class Measured:
    """One finished process: wall and processor seconds, peak resident memory in bytes."""

    wall: float
    cpu: float
    peak: int


def measure(argv: Sequence[str], log: Path) -> Measured:
    """Run a program to its end, its output into ``log``.

    Peak memory is the largest single process of the tree, as the kernel accounts it for waited children.
    """
    program = argv[0] if "/" in argv[0] else find_program(argv[0])
    with log.open("ab") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            [program, *argv[1:]], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CommandError(argv, process.returncode, log.read_text(errors="replace")[-2000:])
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@dataclass(frozen=True)
class Ratio:
    """Ratios a/b of paired runs."""

    name: str
    target: float
    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the pairwise ratios."""
        return statistics.median(x / y for x, y in zip(self.a, self.b, strict=True))

    def __str__(self) -> str:
        pairs = ", ".join(f"{x:.2f}/{y:.2f} s" for x, y in zip(self.a, self.b, strict=True))
        verdict = "met" if self.median <= self.target else "MISSED"
        return (
            f"{self.name}: {self.median:.2f} (target <= {self.target:g}, {verdict}; pairs {pairs})"
        )


def paired(
    name: str,
    target: float,
    a: Callable[[], float],
    b: Callable[[], float],
    *,
    rounds: int,
) -> Ratio:
    """Run ``a`` and ``b`` in turn, ``rounds`` times after one warm-up of each; both return seconds."""
    a(), b()
    pairs = []
    for number in range(rounds):
        pairs.append((a(), b()))
        print(
            f"  {name}, round {number + 1}: {pairs[-1][0]:.2f} s / {pairs[-1][1]:.2f} s",
            file=sys.stderr,
        )
    return Ratio(name, target, tuple(x for x, _ in pairs), tuple(y for _, y in pairs))
