"""bootc-image-builder's config.toml and config.json: a blueprint's customizations as a disk configuration.

Format: osbuild's blueprint. Whatever is in a blueprint is either done or refused; nothing is passed over.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
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
from bootc_build.config.disk import (
    DiskConfiguration,
    machine_path_problems,
    repetitions,
)
from bootc_build.config.document import read_document
from bootc_build.config.origin import Origin
from bootc_build.config.record import (
    ConfigurationError,
    Problem,
    parse_record,
    raise_problems,
)

_IN_IMAGE: Final = "It belongs to the image: say it in the Containerfile"
_PACKAGES: Final = "Packages belong to the image: install them in the Containerfile"
_ARCHITECTURES: Final = ("", "x86_64", "amd64")
# Why a known key cannot be honoured.
_UNSUPPORTED: Final = {
    "packages": _PACKAGES,
    "modules": _PACKAGES,
    "groups": _PACKAGES,
    "enabled_modules": _PACKAGES,
    "containers": "Bind container images in the Containerfile (/usr/lib/bootc/bound-images.d)",
    "distro": "The distribution is that of the image",
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


# What a blueprint calls the last part of disk.yaml's keys.
_NAMES: Final = {"owner": "user", "parents": "ensure_parents"}


def load_blueprint(path: Path) -> DiskConfiguration:
    """Read config.toml or config.json.

    Raises:
        UsageError: it cannot be read, is wrong, or asks for what cannot be done; all problems at once.
    """
    return parse_blueprint(read_document(path), str(path))


def parse_blueprint(document: dict[str, Any], where: str) -> DiskConfiguration:
    """The configuration that a blueprint asks for.

    Args:
        document: the blueprint; may be wrapped in a table `blueprint`, as older files are.
        where: the file, for errors.

    Raises:
        ConfigurationError: it is wrong, or asks for what cannot be done; all problems at once.
    """
    blueprint = parse_record(Blueprint, _unwrapped(document), where)
    raise_problems(where, _problems(blueprint))
    translated, places = _translate(blueprint.customizations)
    try:
        return parse_record(DiskConfiguration, translated, where)
    except ConfigurationError as error:
        problems = [
            Problem(_place(each.path, places), each.fact, each.remedy) for each in error.problems
        ]
        raise ConfigurationError(where, problems) from error


def blueprint_origin(document: dict[str, Any], where: str) -> Origin:
    """Which keys of a blueprint that `parse_blueprint` takes its configuration comes from."""
    custom = parse_record(Blueprint, _unwrapped(document), where).customizations
    _document, places = _translate(custom)
    count = len(custom.user)
    users = dict.fromkeys(each.user for each in custom.sshkey)
    for number, name in enumerate(users, count):
        first = next(n for n, each in enumerate(custom.sshkey) if each.user == name)
        places[f"users[{number}]"] = f"customizations.sshkey[{first}]"
    return Origin(where, places, _NAMES)


def _unwrapped(document: dict[str, Any]) -> dict[str, Any]:
    wrapped = document.get("blueprint")
    if isinstance(wrapped, dict) and set(document) == {"blueprint"}:
        return wrapped
    return document


def _place(path: str, places: dict[str, str]) -> str:
    """The blueprint's key for one of disk.yaml's: that of its longest known beginning."""
    known = [each for each in places if path == each or path.startswith((f"{each}.", f"{each}["))]
    if not known:
        return path
    longest = max(known, key=len)
    return places[longest] + path.removeprefix(longest)


def _problems(blueprint: Blueprint) -> Iterator[Problem]:
    yield from _refused(blueprint, "")
    if blueprint.architecture not in _ARCHITECTURES:
        yield Problem("architecture", f"is {blueprint.architecture}", "Allowed: x86_64")
    custom = blueprint.customizations
    top = "customizations"
    yield from layout_problems(custom)
    if len(custom.locale.languages) > 1:
        yield Problem(f"{top}.locale.languages", "has several entries", "The system has one")
    nodes = [(f"{top}.files[{n}]", each) for n, each in enumerate(custom.files)]
    folders = [(f"{top}.directories[{n}]", each) for n, each in enumerate(custom.directories)]
    paths = [(f"{key}.path", node.path) for key, node in (*nodes, *folders)]
    yield from machine_path_problems(paths)
    users, groups = enumerate(custom.user), enumerate(custom.group)
    yield from repetitions((f"{top}.user[{n}].name", each.name) for n, each in users)
    yield from repetitions((f"{top}.group[{n}].name", each.name) for n, each in groups)
    known = {each.name for each in custom.user}
    for number, key in enumerate(custom.sshkey):
        if key.user in known:
            place = f"{top}.sshkey[{number}].user"
            yield Problem(place, f"is {key.user}, who is below 'user' too", "Say the key there")


def _refused(record: BaseModel, path: str) -> Iterator[Problem]:
    """A problem for each known key that cannot be honoured and says something."""
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        key = field.alias or name
        here = f"{path}.{key}" if path else key
        reason = _UNSUPPORTED.get(here) or (_UNSUPPORTED_IN_LISTS.get(key) if "[" in path else None)
        if reason is not None and value:
            yield Problem(here, "cannot be honoured", reason)
        elif isinstance(value, BaseModel):
            yield from _refused(value, here)
        elif isinstance(value, tuple):
            for number, each in enumerate(value):
                if isinstance(each, BaseModel):
                    yield from _refused(each, f"{here}[{number}]")


def _translate(custom: Customizations) -> tuple[dict[str, Any], dict[str, str]]:
    """The document in disk.yaml's form, and which key of the blueprint each of its keys comes from."""
    document, places = layout_document(custom)
    top = "customizations"
    simple = {
        "hostname": (custom.hostname, "hostname"),
        "kernel-arguments": (_words(custom.kernel.append), "kernel.append"),
        "timezone": (custom.timezone.timezone, "timezone.timezone"),
        "ntp-servers": (list(custom.timezone.ntpservers), "timezone.ntpservers"),
        "locale": (next(iter(custom.locale.languages), None), "locale.languages"),
        "keyboard": (custom.locale.keyboard, "locale.keyboard"),
        "services": (custom.services.model_dump(), "services"),
        "users": ([_user(each) for each in custom.user], "user"),
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
    keys: dict[str, list[str]] = {}
    for each in custom.sshkey:
        keys.setdefault(each.user, []).extend(_lines(each.key))
    document["users"] += [{"name": name, "ssh-keys": lines} for name, lines in keys.items()]
    return document, places


def _words(text: str | None) -> list[str]:
    return (text or "").split()


def _lines(text: str) -> Sequence[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _user(user: BlueprintUser) -> dict[str, Any]:
    found = user.model_dump(
        exclude_none=True, exclude={"key", "password", "expiredate", "force_password_reset"}
    )
    if user.key is not None:
        found["ssh-keys"] = _lines(user.key)
    if user.password is not None:
        found["password-hash" if user.password.startswith("$") else "password"] = user.password
    return found


def _node(node: NodeCustomization) -> dict[str, Any]:
    found = {"path": node.path, "owner": node.user, "group": node.group, "mode": node.mode}
    return {key: value for key, value in found.items() if value is not None}


def _file(file: FileCustomization) -> dict[str, Any]:
    return {**_node(file), "content": file.data}


def _sshd(custom: Customizations) -> dict[str, Any]:
    found = {
        "password-authentication": custom.sshd.password_authentication,
        "keyboard-interactive": custom.sshd.kbd_interactive_authentication,
        "root-login": custom.sshd.permit_root_login,
        "client-alive-interval": custom.sshd.client_alive_interval,
    }
    return {key: value for key, value in found.items() if value is not None}
