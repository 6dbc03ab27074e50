"""What was found as plain data: the document that ``--format json`` prints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bootc_build.inspection.records import InspectedDisk, InspectedImage

Document = dict[str, Any]
# Of this document and of the differences. Fields may be added; with another meaning or gone, it is another version.
VERSION = 1


def document(found: InspectedDisk | InspectedImage) -> Document:
    """The document: the records' fields in camelCase, in their order, with ``version`` and ``kind`` before them."""
    kind = "disk" if isinstance(found, InspectedDisk) else "image"
    return {"version": VERSION, "kind": kind, **_plain(found)}


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON has
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
