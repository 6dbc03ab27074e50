"""The running system, opened to be changed: root, a private mount namespace, the writers' lock."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost import process
from bootc_build.onhost.host import status
from bootc_build.onhost.host.document import Host
from bootc_build.onhost.host.running import require_booted_host, require_running

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot

_LOCK: Final = "/sysroot/ostree/lock"
_START: Final = 22  # the field of /proc/PID/stat that says when a process started


@dataclass(frozen=True)
class BootedSystem:
    """The system while its lock is held; ``host`` and ``slots`` are as of the beginning."""

    sysroot: "Sysroot"
    slots: status.Slots
    host: Host


def lock_holders(lock: str = _LOCK) -> list[str]:
    """Processes that have the lock's file open: the one that holds it, or waits for it, too.

    Each as its command, with its number and the seconds that it runs.
    """
    try:
        wanted = Path(lock).stat()
    except OSError:
        return []
    holders: list[str] = []
    for directory in Path("/proc").glob("[0-9]*"):
        # Processes come and go while one looks.
        with suppress(OSError, ValueError):
            files = (file.stat() for file in (directory / "fd").iterdir())
            if any(os.path.samestat(each, wanted) for each in files):
                holders.append(_describe_process(directory))
    return holders


def _describe_process(directory: Path) -> str:
    words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
    command = " ".join(filter(None, words)) or (directory / "comm").read_text().strip()
    # Behind the name in brackets, which may have anything in it (proc(5)): the 22nd field is the start.
    ticks = int((directory / "stat").read_text().rpartition(")")[2].split()[_START - 3])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = max(0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
    return f"{command} (process {directory.name}, for {age:.0f} s)"


def waiting_message() -> str:
    """What to say while somebody else holds the lock."""
    mine = f"(process {os.getpid()}, "
    holders = [each for each in lock_holders() if mine not in each]
    who = ", ".join(holders) or "Another process"
    return f"{who} is changing the system; waiting for its lock..."


@contextmanager
def open_for_change(say: Callable[[str], None]) -> Iterator[BootedSystem]:
    """Hold the running system's lock for the block.

    Args:
        say: told for whom it waits, when somebody else holds the lock.

    Raises:
        UserError: not a booted host, not root, or libostree cannot.
    """
    require_booted_host()
    from bootc_build.onhost.ostree.sysroot import open_system  # noqa: PLC0415 - libostree takes time

    sysroot = open_system(writing=True)
    with sysroot.locked(on_wait=lambda: say(waiting_message())):
        slots = require_running(status.slots(sysroot.deployments()))
        host = status.read_host(sysroot.deployments(), sysroot.repo)
        yield BootedSystem(sysroot, slots, host)


def reboot() -> None:
    """Ask systemd to reboot; returns at once.

    Raises:
        UserError: systemd refuses.
    """
    # By way of a transient unit: the request outlives this process's own session being stopped.
    process.run(
        ["systemd-run", "--quiet", "--", "systemctl", "reboot", "--message=Initiated by bootc"]
    )
