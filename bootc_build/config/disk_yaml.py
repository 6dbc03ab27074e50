"""Read disk.yaml, and what other formats are translated to: tables of its form, checked as a whole."""

from collections.abc import Mapping
from typing import Any

from bootc_build.config.contradictions import contradictions
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.layout_contradictions import layout_contradictions
from bootc_build.config.record import ConfigurationError, Problem, parse_record, raise_problems
from bootc_build.config.source import ConfigurationSource


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
    at = ConfigurationSource(where, places or {}).key
    try:
        found = parse_record(DiskConfiguration, document, where)
    except ConfigurationError as error:
        problems = [Problem(at(each.path), each.fact, each.remedy) for each in error.problems]
        raise ConfigurationError(where, problems) from error
    raise_problems(where, (*layout_contradictions(found, at), *contradictions(found, at)))
    return found
