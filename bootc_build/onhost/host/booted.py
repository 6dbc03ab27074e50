"""The running system, opened to be changed: root, a private mount namespace, the writers' lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import status
from bootc_build.onhost.host.document import Host

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot

_WAITING = (
    "Another process is changing the system and holds its lock (/ostree/lock); waiting for it..."
)


@dataclass(frozen=True)
class BootedSystem:
    """The system while its lock is held; ``host`` and ``slots`` are as of the beginning."""

    sysroot: "Sysroot"
    slots: status.Slots
    host: Host


def require_booted_host() -> None:
    """Refuse to go on in a container or on a machine that was not booted through ostree.

    Raises:
        UserError: not a booted host, or not root.
    """
    if not os.path.exists("/run/ostree-booted"):  # noqa: PTH110 - asked on every start; pathlib costs
        raise UserError(
            "this command requires a booted host system",
            "Run it on a system that was booted from an image, not in a container.",
        )
    if os.geteuid() != 0:
        raise UserError("this command requires root privileges", "Run it as root or with sudo.")


@contextmanager
def open_for_change() -> Iterator[BootedSystem]:
    """Hold the running system's lock for the block.

    Raises:
        UserError: not a booted host, not root, or libostree cannot.
    """
    require_booted_host()
    from bootc_build.onhost.ostree.sysroot import open_system  # noqa: PLC0415 - libostree takes time

    sysroot = open_system(writing=True)
    with sysroot.locked(on_wait=_WAITING):
        slots = status.slots(sysroot.deployments())
        if slots is None:
            raise UserError(
                "The running system is none of the deployments on its disk.",
                "Look at: ostree admin status",
            )
        yield BootedSystem(sysroot, slots, status.read_host(sysroot))


def reboot() -> None:
    """Ask systemd to reboot; returns at once.

    Raises:
        UserError: systemd refuses.
    """
    # By way of a transient unit: the request outlives this process's own session being stopped.
    process.run(
        ["systemd-run", "--quiet", "--", "systemctl", "reboot", "--message=Initiated by bootc"]
    )
