"""Read disk.yaml, and what other formats are translated to: tables of its form, checked as a whole."""

from collections.abc import Iterator, Mapping
from typing import Any

from bootc_build.config.contradictions import contradictions
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.layout_contradictions import layout_contradictions
from bootc_build.config.record import ConfigurationError, Problem, parse_record, raise_problems


def disk_configuration(
    document: dict[str, Any], where: str, places: Mapping[str, str] | None = None
) -> DiskConfiguration:
    """The configuration in a table of disk.yaml's form.

    Args:
        document: the table.
        where: the file, for errors.
        places: where the table was translated from another format, which key there each of its keys comes from.

    Raises:
        ConfigurationError: it is wrong, or contradicts itself; all problems at once.
    """
    known = places or {}
    try:
        found = parse_record(DiskConfiguration, document, where)
    except ConfigurationError as error:
        problems = [
            Problem(_place(each.path, known), each.fact, each.remedy) for each in error.problems
        ]
        raise ConfigurationError(where, problems) from error
    raise_problems(where, _contradictions(found, known))
    return found


def _contradictions(found: DiskConfiguration, places: Mapping[str, str]) -> Iterator[Problem]:
    def at(path: str) -> str:
        return _place(path, places)

    yield from layout_contradictions(found, at)
    yield from contradictions(found, at)


def _place(path: str, places: Mapping[str, str]) -> str:
    """The other format's key for one of disk.yaml's: that of its longest known beginning."""
    known = [each for each in places if path == each or path.startswith((f"{each}.", f"{each}["))]
    if not known:
        return path
    longest = max(known, key=len)
    return places[longest] + path.removeprefix(longest)
