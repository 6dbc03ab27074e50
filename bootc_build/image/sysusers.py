"""The table of users and groups with fixed ids: sysusers.d in, passwd and group out (pure).

Format: sysusers.d(5). Only the forms that our own table uses are understood.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

NOLOGIN = "/usr/sbin/nologin"


@dataclass(frozen=True)
class Group:
    """A group with a fixed id."""

    name: str
    gid: int


@dataclass(frozen=True)
class User:
    """A user with a fixed id and the name of its primary group."""

    name: str
    uid: int
    group: str
    gecos: str = ""
    home: str = "/"
    shell: str = NOLOGIN


@dataclass(frozen=True)
class UserTable:
    """Users and groups, in the order of the table."""

    users: tuple[User, ...]
    groups: tuple[Group, ...]

    def passwd(self) -> str:
        """The text of /etc/passwd, sorted by id, without passwords (the passwd package makes /etc/shadow)."""
        gids = {group.name: group.gid for group in self.groups}
        return "".join(
            f"{u.name}:*:{u.uid}:{gids[u.group]}:{u.gecos}:{u.home}:{u.shell}\n"
            for u in sorted(self.users, key=lambda user: user.uid)
        )

    def group(self) -> str:
        """The text of /etc/group, sorted by id."""
        return "".join(
            f"{g.name}:x:{g.gid}:\n" for g in sorted(self.groups, key=lambda group: group.gid)
        )

    def sysusers(self) -> str:
        """The table as lines of sysusers.d."""
        lines = [f"g {g.name} {g.gid}" for g in self.groups]
        for u in self.users:
            gecos = f'"{u.gecos}"' if u.gecos else "-"
            lines.append(f"u {u.name} {u.uid}:{u.group} {gecos} {u.home} {u.shell}")
        return "".join(f"{line}\n" for line in lines)

    def without(self, other: "UserTable") -> "UserTable":
        """The users and groups whose names the other table does not have."""
        users = {user.name for user in other.users}
        groups = {group.name for group in other.groups}
        return UserTable(
            tuple(user for user in self.users if user.name not in users),
            tuple(group for group in self.groups if group.name not in groups),
        )


def parse_sysusers(text: str) -> UserTable:
    """Parse ``g NAME GID`` and ``u NAME UID:GROUP GECOS HOME SHELL`` lines.

    Raises:
        ValueError: a line of another form.
    """
    users: list[User] = []
    groups: list[Group] = []
    for line in text.splitlines():
        match shlex.split(line, comments=True):
            case []:
                continue
            case ["g", name, gid]:
                groups.append(Group(name, int(gid)))
            case ["u", name, ids, gecos, home, shell]:
                uid, _, group = ids.partition(":")
                users.append(
                    User(name, int(uid), group, "" if gecos == "-" else gecos, home, shell)
                )
            case _:
                raise ValueError(f"not a line of the users' table: {line}")
    return UserTable(tuple(users), tuple(groups))


def read_passwd(passwd: Iterable[str], group: Iterable[str]) -> UserTable:
    """The table that lines of /etc/passwd and /etc/group describe.

    A user whose primary group has no name keeps the group's number as its name.
    """
    groups = []
    for line in group:
        fields = line.rstrip("\n").split(":")
        if len(fields) >= 3:  # noqa: PLR2004 - name:password:gid:members
            groups.append(Group(fields[0], int(fields[2])))
    names = {g.gid: g.name for g in groups}
    users = []
    for line in passwd:
        fields = line.rstrip("\n").split(":")
        if len(fields) == 7:  # noqa: PLR2004 - passwd(5)
            name, _, uid, gid, gecos, home, shell = fields
            users.append(User(name, int(uid), names.get(int(gid), gid), gecos, home, shell))
    return UserTable(tuple(users), tuple(groups))
