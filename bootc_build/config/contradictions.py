"""What in a configuration contradicts itself or what every machine has: accounts, files, units.

Problems name a key by what `at` makes of its path in disk.yaml, since a configuration may be a translated one.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from bootc_build.config.disk import DiskConfiguration, Services
from bootc_build.config.record import Problem
from bootc_build.config.values import MACHINE_PLACES

At = Callable[[str], str]

# Files that other keys are written to, whatever they say: a text of the machine's owner would replace them.
_MADE_FROM: Final = {
    "/etc/fstab": "Say 'filesystems' and 'swap'",
    "/etc/passwd": "Say 'users'",
    "/etc/shadow": "Say 'users'",
    "/etc/group": "Say 'groups'",
    "/etc/gshadow": "Say 'groups'",
    "/etc/sysusers.d/60-bootc-build-disk.conf": "Choose another name",
    "/etc/tmpfiles.d/60-bootc-build-disk.conf": "Choose another name",
    "/etc/systemd/system/systemd-sysusers.service.d/60-bootc-build-disk.conf": "Choose another name",
    "/etc/systemd/timesyncd.conf.d/60-bootc-build-disk.conf": "Choose another name",
    "/etc/ssh/sshd_config.d/00-bootc-build-disk.conf": "Choose another name",
}
# Files that a key is written to where it is said.
_MADE_FROM_KEYS: Final = {
    "/etc/hostname": "hostname",
    "/etc/locale.conf": "locale",
    "/etc/vconsole.conf": "keyboard",
    "/etc/localtime": "timezone",
}


def contradictions(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    """What contradicts itself in accounts, files and units."""
    for key in ("users", "groups"):
        names = enumerate(getattr(found, key))
        yield from repetitions((at(f"{key}[{n}].name"), each.name) for n, each in names)
    users, groups = enumerate(found.users), enumerate(found.groups)
    yield from repetitions((at(f"users[{n}].uid"), each.uid) for n, each in users)
    yield from repetitions((at(f"groups[{n}].gid"), each.gid) for n, each in groups)
    for number, user in enumerate(found.users):
        if user.password is not None and user.password_hash is not None:
            place = at(f"users[{number}].password")
            yield Problem(place, "is there beside 'password-hash'", "Leave one of them out")
    yield from _path_problems(found, at)
    yield from _unit_problems(found.services, at)


def repetitions(values: Iterable[tuple[str, object]]) -> Iterator[Problem]:
    """A problem for each value (None apart) that an earlier key has already; pairs of key path and value."""
    seen: dict[object, str] = {}
    for path, value in values:
        if value in seen:
            yield Problem(path, f"is {value}, as '{seen[value]}' is", "Leave one of them out")
        elif value is not None:
            seen[value] = path


def _path_problems(found: DiskConfiguration, at: At) -> Iterator[Problem]:
    files = {each.path: at(f"files[{n}].path") for n, each in enumerate(found.files)}
    pairs = [(at(f"files[{n}].path"), each.path) for n, each in enumerate(found.files)]
    pairs += [(at(f"directories[{n}].path"), each.path) for n, each in enumerate(found.directories)]
    yield from repetitions(pairs)
    made = {**_MADE_FROM, **{path: f"Say '{at('users')}'" for path in _credentials(found)}}
    for key, path in pairs:
        if not any(path.startswith(f"{place}/") for place in MACHINE_PLACES):
            places = ", ".join(MACHINE_PLACES)
            yield Problem(key, f"is {path}, which is the image's", f"Allowed: below {places}")
        elif path in made:
            yield Problem(key, f"is {path}, which is made from other keys", made[path])
        elif getattr(found, _MADE_FROM_KEYS.get(path, ""), None) is not None:
            other = at(_MADE_FROM_KEYS[path])
            yield Problem(key, f"is {path}, which '{other}' is written to", "Leave one of them out")
        for above in _above(path):
            if above in files:
                fact = f"is {path}, which is below a file: '{files[above]}' is {above}"
                yield Problem(key, fact, "Only a directory can have something below it")


def _credentials(found: DiskConfiguration) -> Iterator[str]:
    """Where the passwords of users are put."""
    for user in found.users:
        if user.password is not None or user.password_hash is not None:
            yield f"/etc/credstore/passwd.hashed-password.{user.name}"


def _above(path: str) -> Iterator[str]:
    while (path := posixpath.dirname(path)) != "/":
        yield path


def _unit_problems(services: Services, at: At) -> Iterator[Problem]:
    said = {_unit(each): at(f"services.enabled[{n}]") for n, each in enumerate(services.enabled)}
    for key, units in (("disabled", services.disabled), ("masked", services.masked)):
        for number, each in enumerate(units):
            if _unit(each) in said:
                fact = f"is {each}, which '{said[_unit(each)]}' wants to start"
                yield Problem(at(f"services.{key}[{number}]"), fact, "Leave one of them out")


def _unit(name: str) -> str:
    return name if "." in name else f"{name}.service"
