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

    def __add__(self, other: "Measured") -> "Measured":
        """Both, one after the other."""
        peak = max(self.peak, other.peak)
        return Measured(self.wall + other.wall, self.cpu + other.cpu, peak)


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


def put_away(path: Path) -> None:
    """Take a file or folder out of the way: its space is free at once, its inodes are in use until the scratch folder goes.

    For a minute after inodes were freed ext4 searches its tables past each of them (fs/ext4/ialloc.c,
    ``recently_deleted``), five minutes where that is not written yet; whoever makes files next pays for it, often more
    than the work itself takes.
    """
    if not path.exists():
        return
    away = path.parent / "away"
    away.mkdir(exist_ok=True)
    path = path.rename(away / f"{len(os.listdir(away))}")  # noqa: PTH208 - names only
    for file in [path, *path.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            os.truncate(file, 0)


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


@dataclass(frozen=True)
class Peak:
    """Peak resident memory of something, in bytes."""

    name: str
    peak: int
    target: int = 120_000_000

    def __str__(self) -> str:
        verdict = "met" if self.peak <= self.target else "MISSED"
        return (
            f"{self.name}: peak memory {self.peak / 1e6:.0f} MB "
            f"(target <= {self.target / 1e6:.0f} MB, {verdict})"
        )


def paired_both(
    name: str,
    target: float,
    a: Callable[[], Measured],
    b: Callable[[], Measured],
    *,
    rounds: int,
) -> tuple[tuple[Ratio, Ratio], int]:
    """Run ``a`` and ``b`` in turn, ``rounds`` times after one warm-up of each.

    Returns:
        The ratios of wall and of processor time, and the peak memory of ``a`` in bytes.
    """
    pairs = [(a(), b()) for _ in range(rounds + 1)][1:]
    wall = Ratio(
        f"{name}, wall time", target, *zip(*((x.wall, y.wall) for x, y in pairs), strict=True)
    )
    cpu = Ratio(
        f"{name}, processor time", target, *zip(*((x.cpu, y.cpu) for x, y in pairs), strict=True)
    )
    return (wall, cpu), max(x.peak for x, _ in pairs)


def paired(
    name: str,
    target: float,
    a: Callable[[], float],
    b: Callable[[], float],
    *,
    rounds: int,
    warm_up: bool = True,
) -> Ratio:
    """Run ``a`` and ``b`` in turn, ``rounds`` times after one warm-up of each; both return seconds."""
    if warm_up:
        a(), b()
    pairs = []
    for number in range(rounds):
        pairs.append((a(), b()))
        print(
            f"  {name}, round {number + 1}: {pairs[-1][0]:.2f} s / {pairs[-1][1]:.2f} s",
            file=sys.stderr,
        )
    return Ratio(name, target, tuple(x for x, _ in pairs), tuple(y for _, y in pairs))
