"""Set on an installed system what its configuration says; the order of the steps, and what the image must have."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootc_build.config.disk import DiskConfiguration
from bootc_build.disk.identity import Identity
from bootc_build.disk.settings.accounts import (
    Accounts,
    ImageAccounts,
    plan_accounts,
    with_passwords,
)
from bootc_build.disk.settings.deployment import Deployment, MachineFile
from bootc_build.disk.settings.system import fstab, system_files
from bootc_build.disk.wanted import Layout
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.progress import Progress
from bootc_build.tools import openssl
from bootc_build.tools.buildah import Volume, WorkingContainer

_IN_IMAGE = "/run/bootc-build/deployment"
_KEYMAPS = ("usr/share/keymaps", "usr/share/kbd/keymaps", "usr/lib/kbd/keymaps")


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


def apply_settings(
    container: WorkingContainer, target: Path, settings: Settings, progress: Progress
) -> None:
    """Write what the configuration says into an installed tree.

    Args:
        container: a working container of the image, whose programs are used.
        target: what the image's installer laid down.
        settings: what is wanted.
        progress: hears of the step.

    Raises:
        UserError: the image lacks what is wanted of it; a path belongs to the image.
        CommandError: a program of the image failed.
    """
    if settings.is_empty:
        return
    deployment = Deployment.find(target)
    if deployment is None:
        raise UserError("The image's installer left no deployment to be configured.")
    progress.step("Setting what the configuration says")
    wanted = settings.wanted
    _check_image(container, deployment, wanted)
    accounts = _set_accounts(deployment, settings)
    for file in system_files(wanted):
        deployment.write(file)
    if wanted.timezone is not None:
        deployment.link("/etc/localtime", f"../usr/share/zoneinfo/{wanted.timezone}")
    _set_nodes(deployment, wanted, accounts)
    _set_services(container, deployment, wanted)
    existing = deployment.read("/etc/fstab")
    table = fstab(existing, settings.identity, settings.layout)
    if table != existing:
        deployment.write(MachineFile("/etc/fstab", table))


def _set_accounts(deployment: Deployment, settings: Settings) -> Accounts:
    users = settings.wanted.users
    hashes = {user.name: user.password_hash for user in users if user.password_hash is not None}
    for user in users:
        if user.password is not None:
            # The same disk each time: the salt follows from what the disk is made of.
            salt = settings.identity.uuid(f"salt of {user.name}").hex[:16]
            hashes[user.name] = openssl.hash_password(user.password, salt)
    there = ImageAccounts.parse(deployment.read("/etc/passwd"), deployment.read("/etc/group"))
    accounts = plan_accounts(settings.wanted, there, hashes, deployment.resolve)
    for file in accounts.files:
        deployment.write(file)
    if accounts.passwords:
        shadow = with_passwords(deployment.read("/etc/shadow"), accounts.passwords)
        gid = accounts.gids.get("shadow", 0)
        deployment.write(MachineFile("/etc/shadow", shadow, mode=0o640, gid=gid))
    return accounts


def _set_nodes(deployment: Deployment, wanted: DiskConfiguration, accounts: Accounts) -> None:
    for folder in wanted.directories:
        uid, gid = _owner(folder.path, folder.owner, folder.group, accounts)
        mode = int(folder.mode, 8)
        deployment.make_folder(folder.path, mode=mode, uid=uid, gid=gid, parents=folder.parents)
    for file in wanted.files:
        uid, gid = _owner(file.path, file.owner, file.group, accounts)
        deployment.write(MachineFile(file.path, file.content, int(file.mode, 8), uid, gid))


def _owner(path: str, owner: str, group: str, accounts: Accounts) -> tuple[int, int]:
    found = []
    for name, ids, kind in ((owner, accounts.uids, "user"), (group, accounts.gids, "group")):
        if name.isdecimal():
            found.append(int(name))
        elif name in ids:
            found.append(ids[name])
        else:
            raise UsageError(
                f"{path} cannot belong to the {kind} '{name}': neither the image nor the configuration has it.",
                f"There are: {', '.join(sorted(ids))}",
            )
    return found[0], found[1]


def _set_services(
    container: WorkingContainer, deployment: Deployment, wanted: DiskConfiguration
) -> None:
    services = wanted.services
    for verb, units in (
        ("enable", services.enabled),
        ("disable", services.disabled),
        ("mask", services.masked),
    ):
        for unit in units:
            name = unit if "." in unit else f"{unit}.service"
            if not any(deployment.has(f"{folder}/{_template(name)}") for folder in _UNIT_FOLDERS):
                raise UsageError(
                    f"The image has no unit '{name}' to {verb}.",
                    "Install its package in the Containerfile, or leave it out of 'services'.",
                )
            container.run(
                ["systemctl", "--quiet", f"--root={_IN_IMAGE}", verb, name],
                volumes=(Volume(deployment.root, _IN_IMAGE),),
            )


_UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")


def _template(unit: str) -> str:
    """The file of a unit: that of its template, for an instance."""
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at else unit


def _check_image(
    container: WorkingContainer, deployment: Deployment, wanted: DiskConfiguration
) -> None:
    lacks = list(_lacks(container, deployment, wanted))
    if lacks:
        lines = "".join(f"\n  - {each}" for each in lacks)
        raise UsageError(
            f"The image lacks what the configuration asks for:{lines}",
            "Install it in the Containerfile, or leave it out of the configuration.",
        )


def _lacks(
    container: WorkingContainer, deployment: Deployment, wanted: DiskConfiguration
) -> Iterator[str]:
    for user in wanted.users:
        if user.shell is not None and not deployment.has(user.shell):
            yield f"users: the shell {user.shell} of '{user.name}'"
    if wanted.locale is not None and not _has_locale(container, wanted.locale):
        yield f"locale: {wanted.locale} (package locales)"
    if wanted.keyboard is not None and not _has_keymap(deployment, wanted.keyboard):
        yield f"keyboard: the keymap {wanted.keyboard} and what loads it (package kbd, console-data)"
    zone = f"/usr/share/zoneinfo/{wanted.timezone}"
    if wanted.timezone is not None and not deployment.has(zone):
        yield f"timezone: {zone} (package tzdata)"
    if wanted.ntp_servers and not deployment.has("/usr/lib/systemd/systemd-timesyncd"):
        yield "ntp-servers: systemd-timesyncd (package systemd-timesyncd)"
    if wanted.sshd.model_dump(exclude_none=True) and not deployment.has("/usr/sbin/sshd"):
        yield "sshd: an SSH server (package openssh-server)"


def _has_locale(container: WorkingContainer, locale: str) -> bool:
    there = container.run(["locale", "-a"]).split()
    return _plain(locale) in {_plain(each) for each in there}


def _plain(locale: str) -> str:
    # glibc takes UTF-8 and utf8 for the same.
    return locale.replace("-", "").lower()


def _has_keymap(deployment: Deployment, keymap: str) -> bool:
    loader = "/usr/lib/systemd/systemd-vconsole-setup"
    if not deployment.has(loader) or not deployment.has("/usr/bin/loadkeys"):
        return False
    return any(
        any((deployment.root / folder).rglob(f"{keymap}.*map*"))
        for folder in _KEYMAPS
        if (deployment.root / folder).is_dir()
    )
