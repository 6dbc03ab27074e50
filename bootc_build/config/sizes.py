"""Sizes in configuration files: a number of bytes, or a number with a unit."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

_TEXT: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[A-Za-z]*)")
_BINARY: Final = {"": 1, **{f"{letter}iB": 1024**n for n, letter in enumerate("KMGT", 1)}}
# As --size has them; "GB" is left out, since people mean two things by it.
_OURS: Final = {**_BINARY, **{letter: 1024**n for n, letter in enumerate("KMGT", 1)}}
# As osbuild's blueprints have them.
_BLUEPRINT: Final = {**_BINARY, "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}


# What a program can say of a file: off_t has 63 bits.
_LARGEST: Final = 2**63 - 1
_MOST_DIGITS: Final = 30


def _parse(value: object, units: Mapping[str, int]) -> int:
    found = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif found is not None and found["unit"] in units:
        # What has more digits is too large, or has none that count behind the point.
        digits = found["number"][:_MOST_DIGITS]
        size = int(float(digits) * units[found["unit"]])
    if size <= 0:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"allowed is a number of bytes, or one with a unit: {known}")
    if size > _LARGEST:
        raise ValueError(f"no disk is that large: allowed are {_LARGEST} bytes (8 EiB) at most")
    return size


def parse_config_size(value: object) -> int:
    """Bytes of a size in disk.yaml.

    Raises:
        ValueError: it is none; says which units there are.
    """
    return _parse(value, _OURS)


def parse_blueprint_size(value: object) -> int:
    """Bytes of a size in a blueprint, where "GB" is a power of 1000 and "GiB" one of 1024.

    Raises:
        ValueError: it is none; says which units there are.
    """
    return _parse(value, _BLUEPRINT)


_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": _LARGEST},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([KMGT](iB)?)?$"},
    ]
}

Size = Annotated[int, BeforeValidator(parse_config_size), WithJsonSchema(_SCHEMA)]
BlueprintSize = Annotated[int, BeforeValidator(parse_blueprint_size)]
