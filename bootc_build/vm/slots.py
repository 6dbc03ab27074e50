"""How many virtual machines run at once on this computer: a semaphore of all test processes of one user.

Layout: a folder in memory (`/run/bootc-build/slots` for root, else below `$XDG_RUNTIME_DIR`) with a file
`….claim` for each running machine or group of machines, which its process keeps locked (flock) for as long, and
a file `queue`. The kernel gives locks up with their process, so a claim whose lock is free is a dead one's: it
counts for nothing, and whoever sees it removes it. A claim appears by rename, locked and written.

Who wants to claim waits in the order of the `queue` lock and, once at its head, until there is room:

- processors: the guests' virtual processors together are at most twice the computer's (guests of tests also
  wait: for disks, for each other, for the test), or, where a number of slots is given, the machines at most so many;
- memory: what all claims and this one ask for is free now. What running guests have already taken counts twice;
  that errs on the side of a computer which does not swap;
- whoever finds no claim of another process gets in, whatever it asks for.

Against deadlock there is one rule: nobody waits here while holding something that others may wait for. So a
process that has a claim already gets further ones at once; a test that knows that it needs several machines
claims for all of them with the first (marker `bootc_vm(machines=2)`), and waits for all or nothing; and a claim
comes before the lock of a snapshot that may have to be made.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from bootc_build.onhost.errors import UsageError
from bootc_build.tools.cache import cache_folder
from bootc_build.tools.rootless import is_system_root
from bootc_build.tools.sizes import MIB
from bootc_build.vm.waiting import wait_until

SLOTS_VARIABLE = "BOOTC_BUILD_SLOTS"
_OVERCOMMIT = 2
_CLAIM = ".claim"
_numbers = count()


@dataclass(frozen=True)
class Claim:
    """What one process has, or asks for.

    Args:
        process: its id.
        name: what for, in words.
        machines: how many machines.
        cpus: their virtual processors together.
        memory_mib: their memory together.
    """

    process: int
    name: str
    machines: int
    cpus: int
    memory_mib: int


class Slots:
    """Room for virtual machines on this computer.

    Args:
        limit: machines at once; by default $BOOTC_BUILD_SLOTS, or as many as processors allow.
        folder: where the claims are.
        processors: of the computer.
        free_mib: tells its free memory.

    Raises:
        UsageError: the environment variable is no number of machines.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        folder: Path | None = None,
        processors: int | None = None,
        free_mib: Callable[[], int] | None = None,
    ) -> None:
        self.limit = _limit_from_environment() if limit is None else _checked(limit, "The limit")
        self.folder = folder or _runtime_folder()
        self._processors = processors or len(os.sched_getaffinity(0))
        self._free_mib = free_mib or available_memory_mib

    @contextmanager
    def claimed(
        self, name: str, *, cpus: int, memory_mib: int, machines: int = 1, wait: bool = True
    ) -> Iterator[None]:
        """Have room for machines, waiting for it where that is needed, until the block is left.

        Args:
            name: what for, in words; for people who look who is there.
            cpus: virtual processors of all machines together.
            memory_mib: memory of all machines together.
            machines: how many.
            wait: otherwise only be counted.
        """
        claim = Claim(os.getpid(), name, machines, cpus, memory_mib)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if wait and not self._is_mine_there():
            with _locked(self.folder / "queue"):
                wait_until(lambda: self._fits(claim), seconds=float("inf"))
                descriptor, path = self._write(claim)
        else:
            descriptor, path = self._write(claim)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def claims(self) -> list[Claim]:
        """What is claimed now; claims of dead processes are removed."""
        found = []
        for path in self.folder.glob(f"*{_CLAIM}"):
            with suppress(FileNotFoundError):
                if _is_free(path):
                    path.unlink(missing_ok=True)
                    continue
                with suppress(ValueError, TypeError):
                    found.append(Claim(**json.loads(path.read_text())))
        return found

    def _is_mine_there(self) -> bool:
        return any(claim.process == os.getpid() for claim in self.claims())

    def _fits(self, wanted: Claim) -> bool:
        others = self.claims()
        if not others:
            return True
        everyone = [*others, wanted]
        if sum(claim.memory_mib for claim in everyone) > self._free_mib():
            return False
        if self.limit is not None:
            return sum(claim.machines for claim in everyone) <= self.limit
        return sum(claim.cpus for claim in everyone) <= _OVERCOMMIT * self._processors

    def _write(self, claim: Claim) -> tuple[int, Path]:
        path = self.folder / f"{claim.process}-{next(_numbers)}{_CLAIM}"
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps(asdict(claim)).encode())
        new.rename(path)
        return descriptor, path


def available_memory_mib() -> int:
    """What the kernel can give away without swapping, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // MIB
    return 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared, so that two who look at the same time do not take each other for its owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _runtime_folder() -> Path:
    if is_system_root():
        return Path("/run/bootc-build/slots")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime) / "bootc-build" if runtime else cache_folder()) / "slots"


def _limit_from_environment() -> int | None:
    value = os.environ.get(SLOTS_VARIABLE, "")
    if not value:
        return None
    return _checked(int(value) if value.isdecimal() else 0, f"{SLOTS_VARIABLE} ('{value}')")


def _checked(limit: int, what: str) -> int:
    if limit < 1:
        raise UsageError(f"{what} is no number of machines.", "Give 1 or more.")
    return limit
