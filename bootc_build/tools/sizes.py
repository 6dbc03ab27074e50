"""Sizes as people write and read them; units are powers of 1024."""

import re
from decimal import Decimal

from bootc_build.onhost.errors import UsageError

MIB = 1024 * 1024
GIB = 1024 * MIB

_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": MIB, "G": GIB, "T": 1024 * GIB}


def parse_size(text: str) -> int:
    """Bytes for "10G", "10GiB", "1.5T", "512M".

    Raises:
        UsageError: it is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    # Not a float, which would be wrong by bytes for large ones, and is none for very large ones.
    size = 0 if found is None else int(Decimal(found["number"]) * _UNITS[found["unit"].upper()])
    if size <= 0:
        raise UsageError(f"'{text}' is not a size.", "Give it like 10G, 512M or 1.5T.")
    return size


def in_words(size: int) -> str:
    """A size for people: "1.4 GiB"."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"
