"""Read the trees that the merge of /etc is about, and tell what it will do."""

import hashlib
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.etc_merge import (
    Difference,
    Entry,
    Kind,
    Outcome,
    Tree,
    local_changes,
    merged,
)
from bootc_build.onhost.host.status import Slots

_SYSROOT = Path("/sysroot")
_CHUNK = 1 << 20
_ATTRIBUTES = ("user.", "system.posix_acl_", "security.capability")


@dataclass(frozen=True)
class ConfigDiff:
    """The local changes in /etc; with a staged deployment, also what its boot will make of them.

    A transient /etc is lost with any reboot, so what becomes of its changes is known without one.
    """

    staged: bool
    differences: tuple[Difference, ...]


def read_tree(root: Path) -> dict[str, Entry]:
    """List a directory tree, which is not changed.

    Raises:
        UserError: something in it cannot be read.
    """
    try:
        return dict(_walk(os.fspath(root), ""))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _walk(root: str, below: str) -> list[tuple[str, Entry]]:
    found: list[tuple[str, Entry]] = []
    with os.scandir(os.path.join(root, below)) as entries:  # noqa: PTH118 - thousands of paths
        for item in entries:
            path = f"{below}{item.name}"
            info = item.stat(follow_symlinks=False)
            attributes = _attributes(item.path)
            owner = f"{info.st_uid}:{info.st_gid}:{info.st_mode:o}"
            if stat.S_ISDIR(info.st_mode):
                found.append((path, Entry(Kind.DIRECTORY, owner, "", attributes)))
                found.extend(_walk(root, f"{path}/"))
            elif stat.S_ISLNK(info.st_mode):
                target = os.readlink(item.path)  # noqa: PTH115 - likewise
                found.append((path, Entry(Kind.LINK, f"{owner}:{target}", target)))
            elif stat.S_ISREG(info.st_mode):
                found.append(
                    (path, Entry(Kind.FILE, f"{owner}:{_digest(item.path)}", "", attributes))
                )
            else:
                found.append((path, Entry(Kind.SPECIAL, owner)))
    return found


def _attributes(path: str) -> str:
    """The extended attributes that somebody sets; labels of SELinux and of integrity differ by themselves."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ""  # a file system without
    set_by_somebody = sorted(name for name in names if name.startswith(_ATTRIBUTES))
    values = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in set_by_somebody]
    return repr(values) if values else ""


def _digest(path: str) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 - likewise
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _is_transient(etc: Path, stored: Path) -> bool:
    """Whether /etc is an overlay that goes with the reboot (``etc.transient``): the merge sees what is below it."""
    try:
        return not etc.samefile(stored)
    except OSError:
        return False


def config_diff(slots: Slots, etc: Path = Path("/etc"), sysroot: Path = _SYSROOT) -> ConfigDiff:
    """What in /etc differs from the booted image's, and what the next boot does with it.

    Args:
        slots: the deployments.
        etc: the /etc of the booted one.
        sysroot: where the deployments' directories are.

    Raises:
        UserError: a tree cannot be read; it takes root.
    """

    def tree(path: str) -> Tree:
        return read_tree(sysroot / path / "usr/etc")

    image, present = tree(slots.booted.path), read_tree(etc)
    if _is_transient(etc, sysroot / slots.booted.path / "etc"):
        lost = [
            replace(each, outcome=Outcome.LOST, problem="/etc is transient (prepare-root.conf)")
            for each in local_changes(image, present)
        ]
        return ConfigDiff(staged=slots.staged is not None, differences=tuple(lost))
    if slots.staged is None:
        return ConfigDiff(staged=False, differences=tuple(local_changes(image, present)))
    new = tree(slots.staged.path)
    return ConfigDiff(staged=True, differences=tuple(merged(image, present, new)))
