"""How two inspected disks, or two inspected images, differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootc_build.inspection.document import Document
from bootc_build.onhost.host.package_list import compare_packages

# Where a thing lies, what holds it and what it takes in storage say nothing of what it is.
_NOT_COMPARED = ("version", "kind", "file", "format", "storedBytes", "image", "names", "notes")
# What tells the members of a list apart; without any of these it is their position.
_KEYS = ("number", "path")
_PACKAGES = "packages"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        section: "partitions", "packages" and so on.
        what: the thing in it ("3 size"), or empty.
        old: None when it is only in the new one.
        new: None when it is only in the old one.
    """

    section: str
    what: str
    old: Any
    new: Any


def compare(old: Document, new: Document) -> tuple[Difference, ...]:
    """Every difference, section by section."""
    sections = [name for name in {**old, **new} if name not in _NOT_COMPARED]
    return tuple(
        difference
        for section in sections
        for difference in _compare(section, (), old.get(section), new.get(section))
    )


def _compare(section: str, at: tuple[str, ...], old: object, new: object) -> Iterator[Difference]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if at[-1:] == (_PACKAGES,):
            yield from _packages(old, new)
            return
        for key in {**old, **new}:
            yield from _compare(section, (*at, key), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(section, at, old, new)
    else:
        yield Difference(section, " ".join(at), old, new)


def _packages(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    changes = compare_packages(old, new)
    for name, version in changes.removed.items():
        yield Difference(_PACKAGES, name, version, None)
    for name, (before, after) in changes.changed.items():
        yield Difference(_PACKAGES, name, before, after)
    for name, version in changes.added.items():
        yield Difference(_PACKAGES, name, None, version)


def _lists(
    section: str, at: tuple[str, ...], old: Sequence[Any], new: Sequence[Any]
) -> Iterator[Difference]:
    if all(isinstance(each, Mapping) for each in (*old, *new)):
        before, after = _by_key(old), _by_key(new)
        for key in {**before, **after}:
            yield from _compare(section, (*at, key), before.get(key), after.get(key))
        return
    gone = [each for each in old if each not in new]
    come = [each for each in new if each not in old]
    if not gone and not come:  # another order, or another number of the same
        yield Difference(section, " ".join(at), list(old), list(new))
    for each in gone:
        yield Difference(section, " ".join(at), each, None)
    for each in come:
        yield Difference(section, " ".join(at), None, each)


def _by_key(members: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    key = next((name for name in _KEYS if all(name in each for each in members)), None)
    return {str(each[key]) if key else str(index): each for index, each in enumerate(members, 1)}
