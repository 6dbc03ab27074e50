"""Users and groups, decided: their ids, and the files that make them. Pure.

An account that the image lacks is declared in /etc/sysusers.d, its home and keys in /etc/tmpfiles.d, its
password hash as a credential of systemd-sysusers. So /etc/passwd of the image is nobody's to edit; what
systemd-sysusers adds to it at a boot comes back after any upgrade or loss, and at every boot, so that a
system user which a later image brings is there too (a merged /etc keeps the machine's /etc/passwd).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootc_build.config.disk import DiskConfiguration, Group, User
from bootc_build.config.record import Problem
from bootc_build.disk.settings.account_files import (
    Account,
    account_files,
    sysusers_lines,
    tmpfiles_lines,
)
from bootc_build.disk.settings.deployment import MachineFile

_FIRST_ID: Final = 1000


@dataclass(frozen=True)
class ImageAccounts:
    """The accounts of an image.

    Attributes:
        users: by name.
        groups: id by name.
    """

    users: Mapping[str, Account]
    groups: Mapping[str, int]

    @classmethod
    def parse(cls, passwd: str, group: str) -> "ImageAccounts":
        """Read /etc/passwd and /etc/group; lines that are none are passed over."""
        users = {}
        for line in passwd.splitlines():
            fields = line.split(":")
            if len(fields) > 6 and fields[2].isdigit() and fields[3].isdigit():  # noqa: PLR2004 - passwd(5)
                users[fields[0]] = Account(fields[0], int(fields[2]), int(fields[3]), fields[5])
        pairs = (line.split(":") for line in group.splitlines())
        groups = {each[0]: int(each[2]) for each in pairs if len(each) > 2 and each[2].isdigit()}  # noqa: PLR2004 - group(5)
        return cls(users, groups)


@dataclass(frozen=True)
class Home:
    """The home directory of a user of the configuration.

    Attributes:
        path: where it is, links followed.
        uid: whose it is.
        gid: the same of the group.
        is_new: the image has no such user, so it begins as /etc/skel.
    """

    path: str
    uid: int
    gid: int
    is_new: bool


@dataclass(frozen=True)
class Accounts:
    """What becomes of users and groups.

    Attributes:
        files: to be added.
        passwords: hash by name, for users whom the image has already.
        uids: user id by name, of the image's and the new ones.
        gids: group id by name.
        homes: of the users of the configuration.
        problems: what of the configuration cannot be; if there are any, the rest is good for nothing.
    """

    files: tuple[MachineFile, ...]
    passwords: Mapping[str, str]
    uids: Mapping[str, int]
    gids: Mapping[str, int]
    homes: tuple[Home, ...] = ()
    problems: tuple[Problem, ...] = ()


def plan_accounts(
    wanted: DiskConfiguration,
    image: ImageAccounts,
    hashes: Mapping[str, str],
    resolve: Callable[[str], str] = str,
) -> Accounts:
    """Decide ids, and the files that make the accounts.

    Args:
        wanted: the configuration.
        image: what is there already.
        hashes: password hash by user name.
        resolve: follows the links of a path of the machine.
    """
    problems: list[Problem] = []
    gids = _group_ids(wanted.groups, wanted.users, image, problems)
    new = [user for user in wanted.users if user.name not in image.users]
    for number, user in enumerate(wanted.users):
        problems += _user_problems(f"users[{number}]", user, image, gids)
    accounts = _new_accounts(wanted.users, image, gids, problems)
    lines = [f"g {group.name} {gids[group.name]}" for group in wanted.groups]
    lines += sysusers_lines(new, accounts, gids)
    lines += [f"m {user.name} {group}" for user in wanted.users for group in user.groups]
    everybody = {**image.users, **accounts}
    homes = {user.name: resolve(everybody[user.name].home) for user in wanted.users}
    tmpfiles = [
        line
        for user in wanted.users
        for line in tmpfiles_lines(user, everybody[user.name], homes[user.name], is_new=user in new)
    ]
    secrets = {user.name: hashes[user.name] for user in new if user.name in hashes}
    return Accounts(
        account_files(lines, tmpfiles, secrets),
        {name: secret for name, secret in hashes.items() if name in image.users},
        {name: each.uid for name, each in everybody.items()},
        {**gids, **{each.name: each.gid for each in accounts.values() if each.name not in gids}},
        tuple(
            Home(path, everybody[name].uid, everybody[name].gid, name in accounts)
            for name, path in homes.items()
        ),
        tuple(problems),
    )


def with_keys_of_root(
    wanted: DiskConfiguration, given: str | None
) -> tuple[DiskConfiguration, str | None]:
    """Root's keys told once: to the configuration where it has keys of root, else to the installer.

    Both write ``authorized_keys`` by tmpfiles.d, where the first to come is the only one.

    Args:
        wanted: the configuration.
        given: text of an authorized_keys file, or None.

    Returns:
        The configuration, and what is left for the installer.
    """
    if given is None or not any(user.name == "root" and user.ssh_keys for user in wanted.users):
        return wanted, given
    lines = (line.strip() for line in given.splitlines())
    users = tuple(
        user.model_copy(update={"ssh_keys": tuple(dict.fromkeys((*lines, *user.ssh_keys)))})
        if user.name == "root"
        else user
        for user in wanted.users
    )
    return wanted.model_copy(update={"users": users}), None


def _group_ids(
    groups: Sequence[Group],
    users: Sequence[User],
    image: ImageAccounts,
    problems: list[Problem],
) -> dict[str, int]:
    found = dict(image.groups)
    for number, group in enumerate(groups):
        there = image.groups.get(group.name)
        owner = next((name for name, gid in found.items() if gid == group.gid), group.name)
        if there is not None and group.gid not in (None, there):
            fact = f"is {group.gid}, and the image has the group '{group.name}' with the id {there}"
            remedy = "Leave it out, or give the group another name"
            problems.append(Problem(f"groups[{number}].gid", fact, remedy))
        elif owner != group.name:
            fact = f"is {group.gid}, which '{owner}' has"
            problems.append(
                Problem(f"groups[{number}].gid", fact, "Leave it out, or choose another")
            )
        elif group.gid is not None:
            found[group.name] = group.gid
    # User's groups come with ids like the user's: a group must not take those.
    taken = {*found.values(), *(user.gid or user.uid or 0 for user in users)}
    for group in groups:
        if group.name not in found:
            found[group.name] = _free(taken, {each.uid for each in image.users.values()})
            taken.add(found[group.name])
    return found


def _user_problems(
    key: str, user: User, image: ImageAccounts, gids: Mapping[str, int]
) -> Iterator[Problem]:
    for number, group in enumerate(user.groups):
        if group not in gids:
            yield Problem(
                f"{key}.groups[{number}]",
                f"is {group}, which is neither a group of the image nor among 'groups'",
                f"Groups that there are: {', '.join(sorted(gids))}",
            )
    there = image.users.get(user.name)
    if there is None:
        return
    fixed = {"description": None, "uid": there.uid, "gid": there.gid, "shell": None}
    for name, value in {**fixed, "home": there.home}.items():
        said = getattr(user, name)
        if said is not None and said != value:
            yield Problem(
                f"{key}.{name}",
                f"is {said}, and the image has the user '{user.name}' already",
                "Leave it out: such a user can get a password, keys and groups",
            )


def _new_accounts(
    users: Sequence[User],
    image: ImageAccounts,
    gids: Mapping[str, int],
    problems: list[Problem],
) -> dict[str, Account]:
    new = [(f"users[{n}]", user) for n, user in enumerate(users) if user.name not in image.users]
    taken_uids = {each.uid: each.name for each in image.users.values()}
    for key, user in new:
        if user.uid in taken_uids:
            fact = f"is {user.uid}, which '{taken_uids[user.uid]}' has"
            problems.append(Problem(f"{key}.uid", fact, "Leave it out, or choose another"))
        elif user.uid is not None:
            taken_uids[user.uid] = user.name
    taken_gids = set(gids.values()) | {user.gid for _key, user in new if user.gid is not None}
    accounts = {}
    for key, user in new:
        uid = user.uid
        if uid is None:
            uid = _free(set(taken_uids), taken_gids if user.gid is None else set())
            taken_uids[uid] = user.name
        gid = user.gid
        if gid is None:
            gid = gids.get(user.name, uid)
            if user.name not in gids and gid in taken_gids:
                fact = f"is {uid}, and so would be the id of the user's own group, which is taken"
                problems.append(Problem(f"{key}.uid", fact, "Choose another, or say a gid"))
            taken_gids.add(gid)
        home = user.home or f"/var/home/{user.name}"
        accounts[user.name] = Account(user.name, uid, gid, home)
    return accounts


def _free(*taken: Iterable[int]) -> int:
    used = set().union(*taken)
    return next(number for number in range(_FIRST_ID, 60_000) if number not in used)
