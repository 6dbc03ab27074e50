"""The files that make users and groups: as sysusers.d and tmpfiles.d have them, and credentials for passwords. Pure.

Sources: sysusers.d(5), tmpfiles.d(5), systemd-sysusers.service(8), shadow(5).
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootc_build.config.disk import User
from bootc_build.disk.settings.deployment import MachineFile

SYSUSERS: Final = "/etc/sysusers.d/60-bootc-build-disk.conf"
TMPFILES: Final = "/etc/tmpfiles.d/60-bootc-build-disk.conf"
DROP_IN: Final = "/etc/systemd/system/systemd-sysusers.service.d/60-bootc-build-disk.conf"
_CREDENTIAL: Final = "passwd.hashed-password"
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


def account_files(
    sysusers: Sequence[str], tmpfiles: Sequence[str], secrets: Mapping[str, str]
) -> tuple[MachineFile, ...]:
    """The files for these lines, and for the password hashes of new users."""
    files = []
    if sysusers:
        files.append(MachineFile(SYSUSERS, _text(sysusers)))
    if tmpfiles:
        files.append(MachineFile(TMPFILES, _text(tmpfiles)))
    if sysusers or secrets:
        files.append(MachineFile(DROP_IN, _drop_in(secrets)))
    files += [
        MachineFile(_credential(name), secret, mode=0o600, folder_mode=0o700)
        for name, secret in secrets.items()
    ]
    return tuple(files)


def sysusers_lines(
    users: Sequence[User], accounts: Mapping[str, Account], gids: Mapping[str, int]
) -> list[str]:
    """Lines that declare users whom the image lacks, and their groups."""
    lines = []
    ids = set(gids.values())
    for user in users:
        account = accounts[user.name]
        if account.gid not in ids:
            lines.append(f"g {user.name} {account.gid}")
        gecos = _literally(user.description or "")
        home, shell = _literally(account.home), _literally(user.shell or _DEFAULT_SHELL)
        ids_ = f"{account.uid}:{account.gid}"
        lines.append(f'u {user.name} {ids_} "{gecos}" {home} {shell}')
    return lines


def tmpfiles_lines(user: User, account: Account, home: str, *, is_new: bool) -> list[str]:
    """Lines that make a user's home, and put the keys there.

    Args:
        user: as configured.
        account: the ids.
        home: where links of the image lead.
        is_new: the image has no such user.
    """
    home = _literally(home)
    # A colon: only for what is made now; what the owner changed stays.
    owner = f":{account.uid} :{account.gid}"
    lines = [f"C {home} :0700 {owner} - /etc/skel"] if is_new else []
    if user.ssh_keys:
        text = "".join(f"{key}\n" for key in user.ssh_keys)
        keys = base64.b64encode(text.encode()).decode()
        lines.append(f"d {home}/.ssh :0700 {owner} -")
        lines.append(f"f~ {home}/.ssh/authorized_keys :0600 {owner} - {keys}")
    return lines


def with_passwords(shadow: str, passwords: Mapping[str, str]) -> str:
    """The text of /etc/shadow with these users' hashes in place of what they had."""
    lines = []
    for line in shadow.splitlines():
        name, _, rest = line.partition(":")
        secret = passwords.get(name)
        lines.append(line if secret is None else ":".join((name, secret, *rest.split(":")[1:])))
    return "".join(f"{line}\n" for line in lines)


def _literally(text: str) -> str:
    """A text as a field of a line, where quotes and backslashes escape, and a percent sign is a specifier."""
    for character in ("\\", '"', "'"):
        text = text.replace(character, f"\\{character}")
    return text.replace("%", "%%")


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
