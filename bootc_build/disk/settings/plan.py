"""What a configuration sets on the machine, decided and checked against the image before anything is installed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootc_build.config.disk import Directory, DiskConfiguration, File
from bootc_build.config.record import Problem
from bootc_build.disk.identity import Identity
from bootc_build.disk.settings.accounts import Accounts, Home, ImageAccounts, plan_accounts
from bootc_build.disk.settings.deployment import Deployment, MachineFile
from bootc_build.disk.settings.places import home_of, place_problems
from bootc_build.disk.settings.system import system_files
from bootc_build.disk.wanted import Layout
from bootc_build.tools import openssl
from bootc_build.tools.buildah import WorkingContainer

_KEYMAPS = ("usr/share/keymaps", "usr/share/kbd/keymaps", "usr/lib/kbd/keymaps")
_UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")


@dataclass(frozen=True)
class Settings:
    """What is set on the machine.

    Attributes:
        wanted: the configuration.
        identity: has the UUIDs of file systems, and salts.
        layout: has the file systems to be mounted.
    """

    wanted: DiskConfiguration
    identity: Identity
    layout: Layout

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to set."""
        layout_only = {
            *("architecture", "size", "minimum_size", "updates", "root", "boot", "esp"),
            "kernel_arguments",
        }
        said = self.wanted.model_dump(exclude_defaults=True, exclude=layout_only)
        return not said and not self.layout.mountpoints and not self.layout.swap_size


@dataclass(frozen=True)
class MachineFolder:
    """A folder to be made, or changed where it is there.

    Attributes:
        path: absolute, as the machine sees it.
        mode: permissions.
        uid: owner.
        gid: group.
        parents: make those above it, too.
    """

    path: str
    mode: int
    uid: int
    gid: int
    parents: bool


@dataclass(frozen=True)
class SettingsPlan:
    """What is written into the installed tree.

    Attributes:
        settings: what was wanted.
        accounts: users and groups, with their files.
        folders: in their order.
        files: those of the configuration.
        units: what systemctl is told: a verb and the full name of a unit.
        problems: what the image cannot do of it; if there are any, the rest is good for nothing.
    """

    settings: Settings
    accounts: Accounts
    folders: tuple[MachineFolder, ...]
    files: tuple[MachineFile, ...]
    units: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


def plan_settings(container: WorkingContainer, root: Path, settings: Settings) -> SettingsPlan:
    """Decide what is written, and look at the image for what that takes of it.

    Args:
        container: a working container of the image, which is asked for its locales.
        root: the image's file system.
        settings: what is wanted.

    Raises:
        CommandError: a program failed.
    """
    # What is deployed is what is in the image.
    image, wanted = Deployment(root, root / "var"), settings.wanted
    accounts = _accounts(image, settings)
    owner = _Owners(accounts)
    folders = [
        _folder(f"directories[{number}]", each, owner, image)
        for number, each in enumerate(wanted.directories)
    ]
    files = [_file(f"files[{number}]", each, owner) for number, each in enumerate(wanted.files)]
    ours = [each.path for each in (*accounts.files, *system_files(wanted))]
    problems = [
        *accounts.problems,
        *owner.problems,
        *place_problems(image, wanted, [home.path for home in accounts.homes], ours),
        *_password_problems(image, wanted, accounts),
        *_unit_problems(image, wanted),
        *_lacks(container, image, wanted),
    ]
    units = tuple((verb, _full_name(unit)) for _key, verb, unit in _units(wanted))
    return SettingsPlan(settings, accounts, tuple(folders), tuple(files), units, tuple(problems))


def _accounts(image: Deployment, settings: Settings) -> Accounts:
    users = settings.wanted.users
    hashes = {user.name: user.password_hash for user in users if user.password_hash is not None}
    for user in users:
        if user.password is not None:
            # The same disk each time: the salt follows from what the disk is made of.
            salt = settings.identity.uuid(f"salt of {user.name}").hex[:16]
            hashes[user.name] = openssl.hash_password(user.password, salt)
    there = ImageAccounts.parse(image.read("/etc/passwd"), image.read("/etc/group"))
    return plan_accounts(settings.wanted, there, hashes, lambda path: image.resolve(f"{path}/."))


def _password_problems(
    image: Deployment, wanted: DiskConfiguration, accounts: Accounts
) -> Iterator[Problem]:
    there = {line.partition(":")[0] for line in image.read("/etc/shadow").splitlines()}
    for number, user in enumerate(wanted.users):
        if user.name in accounts.passwords and user.name not in there:
            key = "password" if user.password_hash is None else "password-hash"
            fact = f"is there, and the image has its user '{user.name}' not in /etc/shadow"
            yield Problem(f"users[{number}].{key}", fact, "Run pwconv in the Containerfile")


class _Owners:
    """Ids by name or number, with what is wrong about them."""

    def __init__(self, accounts: Accounts) -> None:
        self.homes = accounts.homes
        self._kinds = {"owner": ("user", accounts.uids), "group": ("group", accounts.gids)}
        self.problems: list[Problem] = []

    def of(self, key: str, node: File | Directory) -> tuple[int, int]:
        """User and group id of what is at a key; 0 where there is a problem."""
        found = []
        for name, (kind, ids) in self._kinds.items():
            said: str = getattr(node, name)
            known = int(said) if said.isdecimal() else ids.get(said)
            if known is None:
                fact = f"is {said}, and neither the image nor the configuration has such a {kind}"
                remedy = f"There are: {', '.join(sorted(ids))}"
                self.problems.append(Problem(f"{key}.{name}", fact, remedy))
            found.append(known or 0)
        return found[0], found[1]


def _folder(key: str, folder: Directory, owners: _Owners, image: Deployment) -> MachineFolder:
    uid, gid = owners.of(key, folder)
    mode, said = int(folder.mode, 8), folder.model_fields_set
    home: Home | None = home_of(image.resolve(f"{folder.path}/."), owners.homes)
    if home is not None and image.resolve(f"{folder.path}/.") == home.path:
        # It stays a home where nothing else is said.
        uid = uid if "owner" in said else home.uid
        gid = gid if "group" in said else home.gid
        mode = mode if "mode" in said else 0o700
    return MachineFolder(folder.path, mode, uid, gid, folder.parents)


def _file(key: str, file: File, owners: _Owners) -> MachineFile:
    return MachineFile(file.path, file.content, int(file.mode, 8), *owners.of(key, file))


def _units(wanted: DiskConfiguration) -> Iterator[tuple[str, str, str]]:
    """Key path, what systemctl is told to do, name as it was said."""
    for name, verb in (("enabled", "enable"), ("disabled", "disable"), ("masked", "mask")):
        for number, unit in enumerate(getattr(wanted.services, name)):
            yield f"services.{name}[{number}]", verb, unit


def _full_name(unit: str) -> str:
    return unit if "." in unit else f"{unit}.service"


def _unit_problems(image: Deployment, wanted: DiskConfiguration) -> Iterator[Problem]:
    for key, _verb, unit in _units(wanted):
        name = _full_name(unit)
        if not any(image.has(f"{folder}/{_template(name)}") for folder in _UNIT_FOLDERS):
            fact = f"is {unit}, and the image has no unit {name}"
            yield Problem(key, fact, "Install its package in the Containerfile, or leave it out")


def _template(unit: str) -> str:
    """The file of a unit: that of its template, for an instance."""
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at else unit


def _lacks(
    container: WorkingContainer, image: Deployment, wanted: DiskConfiguration
) -> Iterator[Problem]:
    def lack(key: str, said: object, what: str, package: str) -> Problem:
        remedy = f"Install in the Containerfile: {package}; or leave it out"
        return Problem(key, f"is {said}, and the image has {what}", remedy)

    for number, user in enumerate(wanted.users):
        if user.shell is not None and not image.has(user.shell):
            yield lack(f"users[{number}].shell", user.shell, "no such program", "its package")
    if wanted.locale is not None and not _has_locale(container, image, wanted.locale):
        yield lack("locale", wanted.locale, "no such locale", "locales, and make it")
    if wanted.keyboard is not None and not _has_keymap(image, wanted.keyboard):
        what = "no such keymap, or nothing that loads it"
        yield lack("keyboard", wanted.keyboard, what, "kbd, console-data")
    zone = f"/usr/share/zoneinfo/{wanted.timezone}"
    if wanted.timezone is not None and not image.has(zone):
        yield lack("timezone", wanted.timezone, f"no {zone}", "tzdata")
    if wanted.ntp_servers and not image.has("/usr/lib/systemd/systemd-timesyncd"):
        said = ", ".join(wanted.ntp_servers)
        yield lack("ntp-servers", said, "no systemd-timesyncd", "systemd-timesyncd")
    if wanted.sshd.model_dump(exclude_none=True) and not image.has("/usr/sbin/sshd"):
        fact = "is there, and the image has no SSH server"
        yield Problem("sshd", fact, "Install in the Containerfile: openssh-server")


def _has_locale(container: WorkingContainer, image: Deployment, locale: str) -> bool:
    if not image.has("/usr/bin/locale"):
        return False
    there = container.run(["locale", "-a"]).split()
    return _plain(locale) in {_plain(each) for each in there}


def _plain(locale: str) -> str:
    # glibc takes UTF-8 and utf8 for the same.
    return locale.replace("-", "").lower()


def _has_keymap(image: Deployment, keymap: str) -> bool:
    loader = "/usr/lib/systemd/systemd-vconsole-setup"
    if not image.has(loader) or not image.has("/usr/bin/loadkeys"):
        return False
    return any(
        any((image.root / folder).rglob(f"{keymap}.*map*"))
        for folder in _KEYMAPS
        if (image.root / folder).is_dir()
    )
