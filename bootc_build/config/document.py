"""Read a configuration file: what it holds, as plain data, whatever its format is."""

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import yaml

from bootc_build.onhost.errors import UsageError

SUFFIXES = (".yaml", ".yml", ".toml", ".json")

# Far more than any configuration has; what refers to itself, or multiplies by its anchors, has more.
_DEEPEST: Final = 30
_MOST_VALUES: Final = 100_000


def read_document(path: Path) -> dict[str, Any]:
    """The table that a file holds.

    Raises:
        UsageError: not there, unknown suffix, not in the format that its suffix says, no table.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(
            f"The configuration '{path}' cannot be read: {error.strerror}.", "Give another file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The configuration '{path}' is no text in UTF-8.") from error
    return parse_document(text, path.suffix.lower(), str(path))


def parse_document(text: str, suffix: str, where: str) -> dict[str, Any]:
    """The table that a text holds.

    Args:
        text: in the format that goes with `suffix`.
        suffix: one of `SUFFIXES`.
        where: the file, for errors.

    Raises:
        UsageError: unknown suffix, wrong syntax (with its line), a key twice, no table, too deep or too much.
    """
    try:
        found = _parse(text, suffix, where)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, yaml.YAMLError, ValueError) as error:
        kind = {".toml": "TOML", ".json": "JSON"}.get(suffix, "YAML")
        raise UsageError(f"{where} is not valid {kind}: {error}", "Mend the file.") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    _check_extent(found, where)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{where} holds no keys.", "It begins with lines like 'size: 20G'.")
    return found


def _parse(text: str, suffix: str, where: str) -> object:
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_without_repetition)
    if suffix in SUFFIXES:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    raise UsageError(
        f"What '{where}' is cannot be told by its name.",
        f"Known suffixes: {', '.join(SUFFIXES)}",
    )


def _check_extent(found: object, where: str) -> None:
    pending = [(found, 0)]
    count = 0
    while pending:
        value, depth = pending.pop()
        count += 1
        if depth > _DEEPEST:
            raise _too_deep(where)
        if count > _MOST_VALUES:
            raise UsageError(f"{where} holds more than {_MOST_VALUES} values.", "Mend the file.")
        if isinstance(value, str) and not value.isprintable() and _has_surrogates(value):
            raise UsageError(f"{where} has half a character in a text.", "Mend its \\u escapes.")
        if isinstance(value, dict):
            pending += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list | tuple | set):
            pending += [(each, depth + 1) for each in value]


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _too_deep(where: str) -> UsageError:
    return UsageError(
        f"{where} has more than {_DEEPEST} tables and lists in each other, or an anchor in what it names.",
        "Mend the file: no key of a configuration is that deep.",
    )


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key '{key}' is there twice")
        table[key] = value
    return table


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key counts once (of two, one would be ignored) and is a text, as in every format."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        # Here, where nothing is merged in yet ("<<"): a key that is there too overrides what is.
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a key is no text (line {line})")  # noqa: TRY004 - the file's fault
            if key.tag not in _KEY_TAGS:
                raise ValueError(
                    f"the key '{key.value}' is no text (line {line}); write it in quotes"
                )
            if key.value in seen:
                raise ValueError(f"the key '{key.value}' is there twice (line {line})")
            seen.add(key.value)
        return node


_KEY_TAGS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
