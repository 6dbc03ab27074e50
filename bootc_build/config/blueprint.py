"""bootc-image-builder's config.toml and config.json: a blueprint's customizations as a disk configuration.

Format: osbuild's blueprint. Whatever is in a blueprint is either done or refused; nothing is passed over.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from bootc_build.config.blueprint_layout import layout_document, layout_problems
from bootc_build.config.blueprint_records import (
    Blueprint,
    BlueprintUser,
    Customizations,
    FileCustomization,
    NodeCustomization,
)
from bootc_build.config.credentials import is_password_hash
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.record import Problem, parse_record, raise_problems
from bootc_build.config.source import ConfigurationSource
from bootc_build.onhost.host.kargs import split_command_line

_IN_IMAGE: Final = "It belongs to the image: say it in the Containerfile"
_PACKAGES: Final = "Packages belong to the image: install them in the Containerfile"
# The kernel's names and those of the OCI, which disk.yaml has.
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# What osbuild takes for a hash; any other text is a password for it.
_HASH_PREFIXES: Final = ("$2b$", "$5$", "$6$")
# Why a known key cannot be honoured.
_UNSUPPORTED: Final = {
    "packages": _PACKAGES,
    "modules": _PACKAGES,
    "groups": _PACKAGES,
    "enabled_modules": _PACKAGES,
    "containers": "Bind container images in the Containerfile (/usr/lib/bootc/bound-images.d)",
    "distro": "The distribution is that of the image",
    "minimal": "The packages are those of the image",
    "ostree": "It is for images made of ostree commits: say the image on the command line",
    "customizations.kernel.name": "The kernel is the image's: install it in the Containerfile",
    "customizations.firewall": _IN_IMAGE,
    "customizations.installation_device": "It is for installers: bootc install to-disk takes the device",
    "customizations.fdo": "There is no FIDO device onboarding in Debian's images",
    "customizations.openscap": _IN_IMAGE,
    "customizations.ignition": "There is no Ignition in Debian's images; cloud-init is in base --variant cloud",
    "customizations.repositories": _PACKAGES,
    "customizations.fips": "It takes a kernel and libraries made for it: say fips=1 below kernel.append",
    "customizations.installer": "It is for installer images, which are not made here",
    "customizations.iso": "It is for installer images, which are not made here",
    "customizations.rpm": _PACKAGES,
    "customizations.dnf": _PACKAGES,
    "customizations.rhsm": "There are no subscriptions in Debian",
    "customizations.cacerts": "Certificates belong to the image: update-ca-certificates in the Containerfile",
    "customizations.containers-storage": "Bind container images in the Containerfile",
    "customizations.firstboot": "Ship a unit in the image and enable it below services",
    "customizations.disk.start_offset": "Partitions begin after the first MiB",
}
_UNSUPPORTED_IN_LISTS: Final = {
    "expiredate": "Accounts are made by systemd-sysusers, which knows no expiry: use usermod --expiredate on the machine",
    "force_password_reset": "Accounts are made by systemd-sysusers, which cannot expire a password",
    "uri": "Give the text itself as data",
}


def parse_blueprint(
    document: dict[str, Any], where: str
) -> tuple[DiskConfiguration, ConfigurationSource]:
    """The configuration that a blueprint asks for, and which keys of it that comes from.

    Args:
        document: the blueprint; may be wrapped in a table `blueprint`, as older files are.
        where: the file, for errors.

    Raises:
        ConfigurationError: it is wrong, or asks for what cannot be done; all problems at once.
    """
    wrapped = document.get("blueprint")
    if isinstance(wrapped, dict) and set(document) == {"blueprint"}:
        document = wrapped
    blueprint = parse_record(Blueprint, document, where)
    raise_problems(where, _problems(blueprint))
    translated, places = _translate(blueprint)
    return disk_configuration(translated, where, places), ConfigurationSource(where, places)


def _problems(blueprint: Blueprint) -> Iterator[Problem]:
    yield from _refused(blueprint, "")
    if blueprint.architecture and blueprint.architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        yield Problem("architecture", f"is {blueprint.architecture}", f"Allowed: {known}")
    custom = blueprint.customizations
    yield from layout_problems(custom)
    if len(custom.locale.languages) > 1:
        place = "customizations.locale.languages"
        yield Problem(place, "has several entries", "The system has one")


def _refused(record: BaseModel, path: str) -> Iterator[Problem]:
    """A problem for each known key that cannot be honoured and says something."""
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        key = field.alias or name
        here = f"{path}.{key}" if path else key
        reason = _UNSUPPORTED.get(here) or (_UNSUPPORTED_IN_LISTS.get(key) if "[" in path else None)
        if reason is not None and not _says_nothing(value):
            yield Problem(here, "cannot be honoured", reason)
        elif isinstance(value, BaseModel):
            yield from _refused(value, here)
        elif isinstance(value, tuple):
            for number, each in enumerate(value):
                if isinstance(each, BaseModel):
                    yield from _refused(each, f"{here}[{number}]")


def _says_nothing(value: object) -> bool:
    # Not by its truth: zero says something, the first of January 1970 among others.
    return value is None or value is False or value in ("", [], {}, ())


def _translate(blueprint: Blueprint) -> tuple[dict[str, Any], dict[str, str]]:
    """The document in disk.yaml's form, and which key of the blueprint each of its keys comes from."""
    custom = blueprint.customizations
    document, places = layout_document(custom)
    top = "customizations"
    if blueprint.architecture:
        document["architecture"] = _ARCHITECTURES[blueprint.architecture]
    simple = {
        "hostname": (custom.hostname, "hostname"),
        "kernel-arguments": (list(split_command_line(custom.kernel.append or "")), "kernel.append"),
        "timezone": (custom.timezone.timezone, "timezone.timezone"),
        "ntp-servers": (list(custom.timezone.ntpservers), "timezone.ntpservers"),
        "locale": (next(iter(custom.locale.languages), None), "locale.languages"),
        "keyboard": (custom.locale.keyboard, "locale.keyboard"),
        "services": (custom.services.model_dump(), "services"),
        "groups": ([each.model_dump(exclude_none=True) for each in custom.group], "group"),
        "files": ([_file(each) for each in custom.files], "files"),
        "sshd": (_sshd(custom), "sshd"),
    }
    simple["directories"] = (
        [{**_node(each), "parents": each.ensure_parents} for each in custom.directories],
        "directories",
    )
    for key, (value, place) in simple.items():
        if value is not None:
            document[key] = value
            places[key] = f"{top}.{place}"
    for list_, count in (("files", len(custom.files)), ("directories", len(custom.directories))):
        for number in range(count):
            for key, theirs in _NODE_KEYS.items():
                places[f"{list_}[{number}].{key}"] = f"{top}.{list_}[{number}].{theirs}"
    places |= {f"sshd.{key}": f"{top}.sshd.{theirs}" for key, theirs in _SSHD_KEYS.items()}
    document["users"] = _users(custom, places)
    return document, places


# What disk.yaml calls otherwise than a blueprint.
_NODE_KEYS: Final = {"owner": "user", "content": "data", "parents": "ensure_parents"}
_SSHD_KEYS: Final = {
    "password-authentication": "password_authentication",
    "keyboard-interactive": "kbd_interactive_authentication",
    "root-login": "permit_root_login",
    "client-alive-interval": "client_alive_interval",
}


def _users(custom: Customizations, places: dict[str, str]) -> list[dict[str, Any]]:
    """The accounts; keys below `sshkey` join those that their user has below `user`."""
    users = [_user(each) for each in custom.user]
    places["users"] = "customizations.user"
    for number in range(len(users)):
        place = f"customizations.user[{number}]"
        places[f"users[{number}].ssh-keys"] = f"{place}.key"
        places[f"users[{number}].password-hash"] = f"{place}.password"
    by_name = {each.name: number for number, each in enumerate(custom.user)}
    for number, key in enumerate(custom.sshkey):
        place = f"customizations.sshkey[{number}]"
        if key.user not in by_name:
            by_name[key.user] = len(users)
            places[f"users[{len(users)}].name"] = f"{place}.user"
            users.append({"name": key.user})
        owner = by_name[key.user]
        keys = users[owner].setdefault("ssh-keys", [])
        for line in _lines(key.key):
            places[f"users[{owner}].ssh-keys[{len(keys)}]"] = f"{place}.key"
            keys.append(line)
    return users


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _user(user: BlueprintUser) -> dict[str, Any]:
    found = user.model_dump(
        exclude_none=True, exclude={"key", "password", "expiredate", "force_password_reset"}
    )
    if user.key is not None:
        found["ssh-keys"] = _lines(user.key)
    # An empty one is none for osbuild.
    if user.password:
        is_hash = user.password.startswith(_HASH_PREFIXES) or is_password_hash(user.password)
        found["password-hash" if is_hash else "password"] = user.password
    return found


def _node(node: NodeCustomization) -> dict[str, Any]:
    found = {"path": node.path, "owner": node.user, "group": node.group, "mode": node.mode}
    return {key: value for key, value in found.items() if value is not None}


def _file(file: FileCustomization) -> dict[str, Any]:
    return {**_node(file), "content": file.data}


def _sshd(custom: Customizations) -> dict[str, Any]:
    found = {key: getattr(custom.sshd, theirs) for key, theirs in _SSHD_KEYS.items()}
    return {key: value for key, value in found.items() if value is not None}
