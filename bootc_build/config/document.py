"""Read a configuration file: what it holds, as plain data, whatever its format is."""

import json
import tomllib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from bootc_build.onhost.errors import UsageError

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


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
        UsageError: unknown suffix, wrong syntax (with its line), a key twice, no table.
    """
    try:
        found = _parse(text, suffix, where)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, yaml.YAMLError, ValueError) as error:
        kind = {".toml": "TOML", ".json": "JSON"}.get(suffix, "YAML")
        raise UsageError(f"{where} is not valid {kind}: {error}", "Mend the file.") from error
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


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key '{key}' is there twice")
        table[key] = value
    return table


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key counts once: of two, one would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=True) for key, _value in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                line = node.value[index][0].start_mark.line + 1
                raise ValueError(f"the key '{key}' is there twice (line {line})")
        return super().construct_mapping(node, deep)
