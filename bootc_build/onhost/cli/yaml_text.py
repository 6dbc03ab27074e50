"""Write a document as YAML without PyYAML, which takes longer to import than ``bootc status`` takes.

Only what documents are made of: mappings, lists, texts, whole numbers, truth and nothing.
"""

import json
import re
from collections.abc import Iterator

# Plain where no reader of YAML 1.1 or 1.2 could take it for anything but text; quoted otherwise.
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./@+\-]|:(?=[A-Za-z0-9_./@+\-]))*")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_UNPRINTABLE = re.compile("[\x7f-\x9f\u00ad\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def to_yaml(document: object) -> str:
    """The text of a document, each mapping in its own order."""
    if isinstance(document, dict | list) and document:
        return "".join(f"{line}\n" for line in _lines(document))
    return f"{_scalar(document)}\n"


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict) and inner:
                yield f"{_scalar(key)}:"
                yield from (f"  {line}" for line in _lines(inner))
            elif isinstance(inner, list) and inner:
                yield f"{_scalar(key)}:"
                yield from _lines(inner)
            else:
                yield f"{_scalar(key)}: {_scalar(inner)}"
    elif isinstance(value, list):
        for item in value:
            nested = isinstance(item, dict | list) and item
            lines = list(_lines(item)) if nested else [_scalar(item)]
            yield f"- {lines[0]}"
            yield from (f"  {line}" for line in lines[1:])


def _scalar(value: object) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        quoted = json.dumps(value, ensure_ascii=False)
        return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    return json.dumps(value)
