"""Users and groups, decided: as sysusers.d and tmpfiles.d have them, and credentials for passwords. Pure.

An account that the image lacks is declared in /etc/sysusers.d, its home and keys in /etc/tmpfiles.d, its
password hash as a credential of systemd-sysusers. So /etc/passwd of the image is nobody's to edit; what
systemd-sysusers adds to it at a boot comes back after any upgrade or loss, and at every boot, so that a
system user which a later image brings is there too (a merged /etc keeps the machine's /etc/passwd).

Sources: sysusers.d(5), tmpfiles.d(5), systemd-sysusers.service(8), shadow(5).
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootc_build.config.disk import DiskConfiguration, Group, User
from bootc_build.disk.settings.deployment import MachineFile
from bootc_build.onhost.errors import UsageError

SYSUSERS: Final = "/etc/sysusers.d/60-bootc-build-disk.conf"
TMPFILES: Final = "/etc/tmpfiles.d/60-bootc-build-disk.conf"
DROP_IN: Final = "/etc/systemd/system/systemd-sysusers.service.d/60-bootc-build-disk.conf"
_CREDENTIAL: Final = "passwd.hashed-password"
_FIRST_ID: Final = 1000
_DEFAULT_SHELL: Final = "/bin/bash"
_MADE_BY: Final = "# Written by bootc-build disk from its configuration.\n"


@dataclass(frozen=True)
class Account:
    """A user, with everything decided.

    Attributes:
        name: login name.
        uid: user id.
        gid: id of the own group.
        home: home directory.
    """

    name: str
    uid: int
    gid: int
    home: str


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
class Accounts:
    """What becomes of users and groups.

    Attributes:
        files: to be added.
        passwords: hash by name, for users whom the image has already.
        uids: user id by name, of the image's and the new ones.
        gids: group id by name.
    """

    files: tuple[MachineFile, ...]
    passwords: Mapping[str, str]
    uids: Mapping[str, int]
    gids: Mapping[str, int]


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

    Raises:
        UsageError: a group that nobody has, an id that is taken, a change to one of the image's users.
    """
    gids = _group_ids(wanted.groups, wanted.users, image)
    new = [user for user in wanted.users if user.name not in image.users]
    for user in wanted.users:
        _check_user(user, image, gids)
    accounts = _new_accounts(new, image, gids)
    lines = [f"g {group.name} {gids[group.name]}" for group in wanted.groups]
    lines += _sysusers_lines(new, accounts, gids)
    lines += [f"m {user.name} {group}" for user in wanted.users for group in user.groups]
    everybody = {**image.users, **accounts}
    tmpfiles = [
        line
        for user in wanted.users
        for line in _tmpfiles_lines(
            user, everybody[user.name], resolve(everybody[user.name].home), is_new=user in new
        )
    ]
    files = []
    if lines:
        files.append(MachineFile(SYSUSERS, _text(lines)))
    if tmpfiles:
        files.append(MachineFile(TMPFILES, _text(tmpfiles)))
    secrets = {user.name: hashes[user.name] for user in new if user.name in hashes}
    if lines or secrets:
        files.append(MachineFile(DROP_IN, _drop_in(secrets)))
    files += [
        MachineFile(_credential(name), secret, mode=0o600, folder_mode=0o700)
        for name, secret in secrets.items()
    ]
    return Accounts(
        tuple(files),
        {name: secret for name, secret in hashes.items() if name in image.users},
        {name: each.uid for name, each in everybody.items()},
        {**gids, **{each.name: each.gid for each in accounts.values() if each.name not in gids}},
    )


def with_passwords(shadow: str, passwords: Mapping[str, str]) -> str:
    """The text of /etc/shadow with these users' hashes in place of what they had."""
    lines = []
    for line in shadow.splitlines():
        name, _, rest = line.partition(":")
        secret = passwords.get(name)
        lines.append(line if secret is None else ":".join((name, secret, *rest.split(":")[1:])))
    return "".join(f"{line}\n" for line in lines)


def _group_ids(
    groups: Iterable[Group], users: Sequence[User], image: ImageAccounts
) -> dict[str, int]:
    found = dict(image.groups)
    wanted = list(groups)
    for group in wanted:
        there = image.groups.get(group.name)
        if there is not None and group.gid not in (None, there):
            raise UsageError(
                f"The image has the group '{group.name}' with the id {there}, not {group.gid}.",
                "Leave its gid out, or give the group another name.",
            )
        owner = next((name for name, gid in found.items() if gid == group.gid), group.name)
        if owner != group.name:
            raise UsageError(
                f"The group '{group.name}' cannot have the id {group.gid}: '{owner}' has it.",
                "Leave its gid out, or choose another.",
            )
        if group.gid is not None:
            found[group.name] = group.gid
    # User's groups come with ids like the user's: a group must not take those.
    taken = {*found.values(), *(user.gid or user.uid or 0 for user in users)}
    for group in wanted:
        if group.name not in found:
            found[group.name] = _free(taken, {each.uid for each in image.users.values()})
            taken.add(found[group.name])
    return found


def _check_user(user: User, image: ImageAccounts, gids: Mapping[str, int]) -> None:
    for group in user.groups:
        if group not in gids:
            raise UsageError(
                f"The user '{user.name}' cannot be in the group '{group}', which is neither in the image nor "
                "among 'groups'.",
                f"Groups that there are: {', '.join(sorted(gids))}",
            )
    there = image.users.get(user.name)
    if there is None:
        return
    fixed = {"description": None, "uid": there.uid, "gid": there.gid, "shell": None}
    for key, value in {**fixed, "home": there.home}.items():
        said = getattr(user, key)
        if said is not None and said != value:
            raise UsageError(
                f"The image has the user '{user.name}', so '{key}' cannot be {said}.",
                "Leave it out: such a user can get a password, keys and groups.",
            )


def _new_accounts(
    users: Sequence[User], image: ImageAccounts, gids: Mapping[str, int]
) -> dict[str, Account]:
    taken_uids = {each.uid: each.name for each in image.users.values()}
    for user in users:
        if user.uid in taken_uids:
            raise UsageError(
                f"The user '{user.name}' cannot have the id {user.uid}: '{taken_uids[user.uid]}' has it.",
                "Leave its uid out, or choose another.",
            )
        if user.uid is not None:
            taken_uids[user.uid] = user.name
    taken_gids = set(gids.values()) | {user.gid for user in users if user.gid is not None}
    accounts = {}
    for user in users:
        uid = user.uid
        if uid is None:
            uid = _free(set(taken_uids), taken_gids if user.gid is None else set())
            taken_uids[uid] = user.name
        gid = user.gid
        if gid is None:
            gid = gids.get(user.name, uid)
            if user.name not in gids and gid in taken_gids:
                raise UsageError(
                    f"The user '{user.name}' cannot have a group with the id {gid}: it is taken.",
                    "Give the user another uid, or a gid.",
                )
            taken_gids.add(gid)
        home = user.home or f"/var/home/{user.name}"
        accounts[user.name] = Account(user.name, uid, gid, home)
    return accounts


def _free(*taken: Iterable[int]) -> int:
    used = set().union(*taken)
    return next(number for number in range(_FIRST_ID, 60_000) if number not in used)


def _sysusers_lines(
    users: Sequence[User], accounts: Mapping[str, Account], gids: Mapping[str, int]
) -> list[str]:
    lines = []
    ids = set(gids.values())
    for user in users:
        account = accounts[user.name]
        if account.gid not in ids:
            lines.append(f"g {user.name} {account.gid}")
        gecos = (user.description or "").replace("\\", "\\\\").replace("%", "%%")
        shell = user.shell or _DEFAULT_SHELL
        ids_ = f"{account.uid}:{account.gid}"
        lines.append(f'u {user.name} {ids_} "{gecos}" {account.home} {shell}')
    return lines


def _tmpfiles_lines(user: User, account: Account, home: str, *, is_new: bool) -> list[str]:
    home = home.replace("%", "%%")
    # A colon: only for what is made now; what the owner changed stays.
    owner = f":{account.uid} :{account.gid}"
    lines = [f"C {home} :0700 {owner} - /etc/skel"] if is_new else []
    if user.ssh_keys:
        text = "".join(f"{key}\n" for key in user.ssh_keys)
        keys = base64.b64encode(text.encode()).decode()
        lines.append(f"d {home}/.ssh :0700 {owner} -")
        lines.append(f"f~ {home}/.ssh/authorized_keys :0600 {owner} - {keys}")
    return lines


def _credential(name: str) -> str:
    return f"/etc/credstore/{_CREDENTIAL}.{name}"


def _drop_in(secrets: Iterable[str]) -> str:
    loads = [f"LoadCredential={_CREDENTIAL}.{name}:{_credential(name)}" for name in secrets]
    lines = [
        "# At every boot, not only where /etc is new: an upgrade keeps the machine's /etc/passwd, and the users",
        "# that the new image brings have to come into it.",
        "[Unit]",
        "ConditionNeedsUpdate=",
        *(["[Service]", *loads] if loads else []),
    ]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    return _MADE_BY + "".join(f"{line}\n" for line in lines)
