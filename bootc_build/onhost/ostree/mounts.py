"""A mount namespace of the process's own, so that what it mounts is seen by nobody else."""

import ctypes
import os

from bootc_build.onhost.errors import UserError

# linux/sched.h and linux/mount.h; os.unshare() came with Python 3.12 only, os.mount() never.
_CLONE_NEWNS = 0x00020000
_MS_REMOUNT = 1 << 5
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18


def enter_private_mounts() -> None:
    """Leave the mount namespace that the process shares; it has to happen before any thread starts.

    Raises:
        UserError: the kernel refused, for want of privilege.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Private, too, what is below /: otherwise mounts would go back to where they were copied from.
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        reason = os.strerror(ctypes.get_errno())
        raise UserError(f"No private mount namespace can be entered: {reason}.", "Run it as root.")


def make_writable(mount_point: str) -> None:
    """Make a read-only mount writable, as libostree does for its own writers; in a private namespace.

    Raises:
        UserError: the kernel refused: the medium itself cannot be written.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, mount_point.encode(), None, _MS_REMOUNT, None):
        reason = os.strerror(ctypes.get_errno())
        raise UserError(f"{mount_point} cannot be made writable: {reason}.")
