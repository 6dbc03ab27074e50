"""The lint on users and groups that only /etc knows."""

import re
from collections.abc import Iterator

from bootc_build.onhost.lint.model import Problem
from bootc_build.onhost.lint.root import Root

_FOLDERS = ("/usr/lib/sysusers.d", "/etc/sysusers.d")
# The type may carry "!", as in "u!": the account is locked.
_LINE = re.compile(r"^\s*([ug])[!+=~^-]*\s+(\S+)")


def sysusers(root: Root) -> Iterator[Problem]:
    """Find users and groups of /etc that no sysusers.d line would make."""
    users, groups = _declared(root)
    for path, declared, letter in (
        ("/etc/passwd", users, "u"),
        ("/etc/group", groups, "g"),
    ):
        missing = [name for name in _names(root.text(path)) if name not in declared]
        if missing:
            what = "Users" if letter == "u" else "Groups"
            yield Problem(
                f"{what} without a sysusers.d line: {', '.join(missing)}. A host whose {path} was "
                "changed never gets them by an upgrade, and their ids may differ from build to build.",
                f"Declare them with fixed ids in /usr/lib/sysusers.d/NAME.conf, for example: {letter} {missing[0]} 900"
                + (' "What it is for" /var/lib/name' if letter == "u" else ""),
                [path],
            )


def _names(text: str) -> list[str]:
    return [
        line.partition(":")[0]
        for line in text.splitlines()
        if ":" in line and not line.startswith(("+", "-", "#"))
    ]


def _declared(root: Root) -> tuple[set[str], set[str]]:
    """Users and groups that sysusers.d makes; a user brings the group of its name."""
    users: set[str] = set()
    groups: set[str] = set()
    sources = {
        name: f"{folder}/{name}"
        for folder in _FOLDERS
        for name in root.names(folder)
        if name.endswith(".conf")
    }
    for source in sources.values():
        for line in root.text(source).splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            name = match[2].strip("\"'")
            groups.add(name)
            if match[1] == "u":
                users.add(name)
    return users, groups
