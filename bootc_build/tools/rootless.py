"""Work as an ordinary user: in a user namespace where that user's subordinate ids are the images' users.

The namespace is the one that ``buildah unshare`` and podman make, with the same ids, so that buildah, podman and
skopeo find the user's own storage in it. ``unshare`` makes it and then becomes the program: whoever sends a signal or
waits for the exit status deals with the program itself, not with a parent that may end before it has cleaned up.
Inside, the process is root over its own files and nothing else.
"""

import os
import pwd
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import MissingProgramError, find_program, run

# Debian's own users end at 65534; a file of a user who is not mapped cannot be made.
IDS_NEEDED = 65_536
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--")
_INSIDE = "BOOTC_BUILD_IN_NAMESPACE"
_ID_MAP = Path("/proc/self/uid_map")
_SUBIDS = {"uid": Path("/etc/subuid"), "gid": Path("/etc/subgid")}


def is_system_root() -> bool:
    """Whether this process is root of the machine, and not only of a namespace of its user's."""
    try:
        inside, outside, _ = _ID_MAP.read_text().split("\n", 1)[0].split()
    except (OSError, ValueError):
        return os.geteuid() == 0
    return os.geteuid() == 0 and inside == outside == "0"


def user() -> str:
    """Name of the user whose process this is, outside of any namespace."""
    number = int(os.environ.get("_CONTAINERS_ROOTLESS_UID") or os.getuid())
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def enter(argv: Sequence[str]) -> None:
    """Go on in a user namespace, unless this process is root already; does not return where it changes.

    Args:
        argv: arguments of ``bootc-build``.

    Raises:
        UserError: no namespace can be had; says everything that is missing.
    """
    if os.geteuid() == 0:
        return
    faults = namespace_faults()
    if not faults and os.environ.get(_INSIDE):
        faults = [UserError("'unshare' does not make this user root of a namespace.")]
    if faults:
        raise UserError(
            "This cannot be done as an ordinary user here: "
            + " ".join(each.fact for each in faults),
            "\n".join([*(each.remedy for each in faults if each.remedy), "Or run it with sudo."]),
        )
    command = [*_NAMESPACE, sys.executable, "-m", "bootc_build.cli.main", *argv]
    environment = {
        # By these, buildah, podman and skopeo know that the namespace is there and whose it is.
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
        "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
        _INSIDE: "1",
    }
    os.execve(find_program(command[0]), command, {**os.environ, **environment})  # noqa: S606 - this process becomes it


def namespace_faults() -> list[UserError]:
    """What keeps this user from working without root; empty when nothing does."""
    faults: list[UserError] = []
    for program, package in (("buildah", "buildah"), ("newuidmap", "uidmap")):
        try:
            find_program(program, f"Install it with: apt-get install {package}")
        except MissingProgramError as error:
            faults.append(error)
    for kind, path in _SUBIDS.items():
        count = subordinate_ids(path, user(), os.getuid())
        if count < IDS_NEEDED:
            faults.append(
                UserError(
                    f"{user()} has {count} subordinate {kind}s in {path}, {IDS_NEEDED} are needed.",
                    f"Give some: sudo usermod --add-sub{kind}s 100000-165535 {user()}",
                )
            )
    if not faults:
        done = run([*_NAMESPACE, "true"], check=False)
        if done.status != 0:
            said = done.stderr.strip().splitlines()
            faults.append(
                UserError(
                    f"A user namespace cannot be made{': ' + said[-1] if said else ''}.",
                    _forbidden(),
                )
            )
    return faults


def subordinate_ids(table: Path, name: str, number: int) -> int:
    """How many ids a table like /etc/subuid gives a user, by name or number."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return 0
    rows = [line.split(":") for line in lines if not line.startswith("#")]
    counts = [row[2] for row in rows if len(row) == 3 and row[0] in (name, str(number))]  # noqa: PLR2004 - the table's fields
    return sum(int(count) for count in counts if count.isdecimal())


def storage_driver() -> str:
    """How this user's container storage keeps layers: "overlay", "vfs" and so on; empty if it is unknown."""
    if shutil.which("buildah") is None:
        return ""
    argv = ["buildah", "info", "--format", "{{.store.GraphDriverName}}"]
    return run(argv, check=False).stdout.strip()


def storage_root() -> Path | None:
    """Where this user's container storage is; None if that is unknown."""
    if shutil.which("buildah") is None:
        return None
    argv = ["buildah", "info", "--format", "{{.store.GraphRoot}}"]
    said = run(argv, check=False).stdout.strip()
    return Path(said) if said.startswith("/") else None


def _forbidden() -> str:
    """Which switch of the kernel forbids user namespaces."""
    for name, bad, good in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "15000"),
    ):
        try:
            value = Path("/proc/sys", name).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return f"Allow it with: sudo sysctl {name.replace('/', '.')}={good}"
    return ""
