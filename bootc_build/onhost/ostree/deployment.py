"""What a deployment is, whichever way it was read: through libostree or from its files."""

from enum import Enum

from bootc_build.onhost.record import record


class Overlay(Enum):
    """What is mounted over /usr of a deployment."""

    NONE = "none"
    DEVELOPMENT = "development"
    HOTFIX = "hotfix"
    TRANSIENT = "transient"


@record
class Deployment:
    """One bootable root.

    Args:
        index: position in the boot order (a staged one comes first).
        stateroot: name of the group that shares /var.
        checksum: the commit.
        serial: counts deployments of the same commit.
        origin: text of the origin file; empty when it has none.
        options: the kernel command line of its boot entry.
        booted: it runs now.
        staged: it becomes real at shutdown.
        locked: staged, but kept from becoming real (downloaded only).
        pinned: never collected.
        overlay: what lies over its /usr.
        path: its root directory below the sysroot, relative.
    """

    index: int
    stateroot: str
    checksum: str
    serial: int
    origin: str
    options: str
    booted: bool
    staged: bool
    locked: bool
    pinned: bool
    overlay: Overlay
    path: str
