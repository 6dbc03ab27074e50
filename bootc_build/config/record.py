"""Frozen records that say what a file may hold, and errors that say what is wrong with one."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bootc_build.onhost.errors import UsageError


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Record(BaseModel):
    """A table whose keys are written-with-dashes; unknown keys are errors, nothing is converted."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=_kebab,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class PlainRecord(BaseModel):
    """A table whose keys are the names themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file.

    Attributes:
        path: the key, like ``users[0].shell``; empty for the file as a whole.
        fact: what is wrong with it.
        remedy: what is allowed there, or what to do.
    """

    path: str
    fact: str
    remedy: str = ""

    def text(self, where: str) -> str:
        """The problem for people, in one line."""
        place = f"{where}: '{self.path}'" if self.path else where
        return f"{place} {self.fact}."


class ConfigurationError(UsageError):
    """A file is wrong; names the file, and of each problem its key path and what is allowed there.

    Args:
        where: the file.
        problems: one at least.
    """

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            [only] = self.problems
            super().__init__(only.text(where), only.remedy)
            return
        lines = "".join(
            f"\n  - '{each.path}' {each.fact}" + (f" ({each.remedy})" if each.remedy else "")
            for each in self.problems
        )
        super().__init__(f"{where} has {len(self.problems)} errors:{lines}")


def raise_problems(where: str, problems: Iterable[Problem]) -> None:
    """Raise if there are any.

    Raises:
        ConfigurationError: there are.
    """
    if found := list(problems):
        raise ConfigurationError(where, found)


_R = TypeVar("_R", bound=BaseModel)


def parse_record(kind: type[_R], document: Mapping[str, Any], where: str) -> _R:
    """A table as a record.

    Args:
        kind: the record's type.
        document: the table.
        where: the file, for errors.

    Raises:
        ConfigurationError: unknown keys, missing ones, values that are not allowed; all of them at once.
    """
    try:
        # As JSON, since that is what the strictness is defined on: lists become tuples, texts no numbers.
        text = json.dumps(document)
    except TypeError as error:
        raise ConfigurationError(where, list(_foreign_values(document))) from error
    try:
        if issubclass(kind, Record):
            return kind.model_validate_json(text, by_alias=True, by_name=False)
        return kind.model_validate_json(text)
    except ValidationError as error:
        found = [_problem(kind, dict(each)) for each in error.errors(include_url=False)]
        raise ConfigurationError(where, found) from error


def key_path(location: Iterable[str | int]) -> str:
    """A place in a document, like ``users[0].shell``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _foreign_values(value: object, location: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _foreign_values(each, (*location, str(key)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _foreign_values(each, (*location, index))
    elif value is not None and not isinstance(value, str | int | float):
        yield Problem(key_path(location), f"is {value}", "Write it in quotes")


_WANTED = {
    "string_type": "has to be a text",
    "int_type": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "bool_type": "has to be true or false",
    "tuple_type": "has to be a list",
    "model_type": "has to be a table",
    "model_attributes_type": "has to be a table",
}


# Errors are printed, and kept in logs.
_SECRET = ("password", "password-hash")
_LONGEST = 200


def _problem(kind: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    location = error["loc"]
    context = error.get("ctx", {})
    fact, remedy = f"is {_shown(location, error.get('input'))}", ""
    match error["type"]:
        case "extra_forbidden":
            fact = "is not a known key"
            remedy = f"Known there: {', '.join(_known_keys(kind, location[:-1]))}"
        case "missing":
            fact = "is missing"
        case "literal_error" | "enum":
            remedy = f"Allowed there: {context['expected']}"
        case "string_pattern_mismatch":
            remedy = f"Allowed there: what matches {context['pattern']}"
        case "value_error":
            fact += f": {context['error']}"
        case name if name in _WANTED:
            fact += f", it {_WANTED[name]}"
        case _:
            fact += f": {error['msg'][0].lower()}{error['msg'][1:]}"
    return Problem(key_path(location), fact, remedy)


def _shown(location: Sequence[str | int], value: object) -> str:
    """A value for people: not where it lets somebody in, and not all of a long one."""
    if location and location[-1] in _SECRET:
        return "not what it may be"
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _known_keys(kind: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    for step in location:
        if isinstance(step, int):
            continue
        field = next(each for name, each in kind.model_fields.items() if step in (name, each.alias))
        kind = next(_records(field.annotation))
    return sorted(field.alias or name for name, field in kind.model_fields.items())


def _records(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _records(inner)
