"""The running system, looked at only: no lock, no change, no need to be root, and quick."""

import os
from collections.abc import Callable
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import boot_record, status
from bootc_build.onhost.host.document import Host
from bootc_build.onhost.host.medium import is_read_only
from bootc_build.onhost.ostree.deployment import Deployment
from bootc_build.onhost.ostree.metadata import Commits
from bootc_build.onhost.ostree.sysroot_files import (
    DANGLING_REMEDY,
    SysrootFiles,
    UnknownLayoutError,
)
from bootc_build.onhost.packages import find_packages
from bootc_build.onhost.record import replace

_BOOTED: Final = "/run/ostree-booted"


def require_booted_host(*, root: bool = True) -> None:
    """Refuse to go on in a container or on a machine that was not booted through ostree.

    Args:
        root: refuse others than root, too.

    Raises:
        UserError: not a booted host, or not root.
    """
    if not os.path.exists(_BOOTED):
        raise UserError(
            "this command requires a booted host system",
            "Run it on a system that was booted from an image, not in a container.",
        )
    if root and os.geteuid() != 0:
        raise UserError("this command requires root privileges", "Run it as root or with sudo.")


def require_running(slots: status.Slots | None) -> status.Slots:
    """The slots, where one of the deployments runs.

    Raises:
        UserError: none does.
    """
    if slots is None:
        raise UserError(
            "The running system is none of the deployments on its disk.",
            "Look at: ostree admin status",
        )
    return slots


def _ignore(_text: str) -> None:
    """Tell nobody."""


def _deployments(warn: Callable[[str], None]) -> tuple[tuple[Deployment, ...], Commits]:
    """The running system's deployments and where their commits are: from files where that is possible."""
    files = SysrootFiles()
    try:
        return files.deployments(), files
    except UnknownLayoutError:
        find_packages()
        from bootc_build.onhost.ostree.sysroot import open_system  # noqa: PLC0415 - takes time

        try:
            sysroot = open_system(writing=False)
        except UserError as error:
            return _left(files, error, warn), files
        return sysroot.deployments(), sysroot.repo


def _left(
    files: SysrootFiles, refused: UserError, warn: Callable[[str], None]
) -> tuple[Deployment, ...]:
    """What is there of deployments that libostree refuses, because a boot entry leads to none."""
    try:
        found, lost = files.deployments_left()
    except UnknownLayoutError:
        raise refused from None
    if not lost:
        raise refused
    for each in lost:
        warn(f"warning: A boot entry leads to no deployment: {each}")
    warn(f"warning: {DANGLING_REMEDY}")
    return found


def read_running_host(warn: Callable[[str], None] = _ignore) -> Host:
    """The status of the running system, without its lock and without being root; nothing is changed.

    Empty on a machine that was not booted through ostree.

    Args:
        warn: told what is wrong with deployments that are not shown.

    Raises:
        UserError: the deployments cannot be read.
    """
    # A container that happens to run on such a host is no such host, and must not wait for libostree.
    if not os.path.exists(_BOOTED):
        return Host()
    deployments, commits = _deployments(warn)
    host = status.read_host(deployments, commits, read_only=is_read_only("/sysroot"))
    return replace(
        host,
        status=replace(
            host.status,
            boot_health=boot_record.read_boot_health(),
            failed_images=boot_record.read_failed(),
            finalize_failure=boot_record.finalize_failure(),
        ),
    )


def read_slots(warn: Callable[[str], None] = _ignore) -> status.Slots:
    """The running system's deployments by role, without its lock and without being root.

    Args:
        warn: told what is wrong with deployments that are not among them.

    Raises:
        UserError: not a booted host.
    """
    require_booted_host(root=False)
    return require_running(status.slots(_deployments(warn)[0]))
