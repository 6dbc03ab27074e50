"""Read and write serialised GVariants without GLib.

Importing PyGObject takes longer than everything else that `bootc status` does, and all that it needs of GLib is
this format; and who prepares layers on a build machine need not have libostree. Source: the GVariant specification (framing, alignment, offsets); framing offsets are
little-endian everywhere, numbers are in the machine's own order.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import cast

_ALIGNMENTS = {"n": 2, "q": 2, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8, "d": 8, "v": 8}
_SIZES = {"b": 1, "y": 1, "n": 2, "q": 2, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8}
_SIGNED = "nixh"
_TEXT = "sog"
_OPEN = "({"
_NARROW, _MEDIUM = 0xFF, 0xFFFF


def decode(kind: str, data: bytes) -> object:
    """The value that is serialised in ``data``.

    Args:
        kind: type string, of the basic types but ``d``, of ``v``, ``a``, tuples and dictionary entries.
        data: exactly the serialised value.

    Returns:
        int, bool, str, bytes (for ``ay``), tuple, list, or dict (for arrays of dictionary entries); a variant
        gives what is in it.

    Raises:
        ValueError: it is cut off, or no value of that type.
    """
    try:
        return _value(kind, data)
    except (IndexError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no serialised value of the type {kind!r}") from error


def encode(kind: str, value: object) -> bytes:
    """Serialise a value; the other way round than `decode`.

    Args:
        kind: type string, as `decode` takes it.
        value: as `decode` returns it, but a variant is a pair of its type string and what is in it.
    """
    first = kind[0]
    if first in _SIZES:
        return int(cast("int", value)).to_bytes(
            _SIZES[first], sys.byteorder, signed=first in _SIGNED
        )
    if first in _TEXT:
        return cast("str", value).encode() + b"\0"
    if first == "v":
        inner, content = cast("tuple[str, object]", value)
        return encode(inner, content) + b"\0" + inner.encode("ascii")
    if kind == "ay":
        return cast("bytes", value)
    if first == "a":
        if isinstance(value, Mapping):
            value = value.items()
        return _encode_array(kind[1:], cast("Iterable[object]", value))
    return _encode_members(_split(kind[1:-1]), tuple(cast("Iterable[object]", value)))


def _encode_array(kind: str, values: Iterable[object]) -> bytes:
    body = bytearray()
    ends = []
    alignment = _alignment(kind)
    for value in values:
        body += bytes(-len(body) % alignment)
        body += encode(kind, value)
        ends.append(len(body))
    return bytes(body) if _fixed_size(kind) is not None else _framed(body, ends)


def _encode_members(kinds: list[str], values: tuple[object, ...]) -> bytes:
    body = bytearray()
    ends = []
    for index, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        body += bytes(-len(body) % _alignment(kind))
        body += encode(kind, value)
        if _fixed_size(kind) is None and index < len(kinds) - 1:
            ends.append(len(body))
    if all(_fixed_size(kind) is not None for kind in kinds):
        return bytes(body + bytes(-len(body) % max(map(_alignment, kinds))))
    return _framed(body, ends[::-1])


def _framed(body: bytearray, ends: list[int]) -> bytes:
    """A container's body with its offsets behind it, as narrow as its whole length allows."""
    if not ends:
        return bytes(body)
    width = next(w for w in (1, 2, 4) if _offset_width(len(body) + w * len(ends)) <= w)
    return bytes(body) + b"".join(end.to_bytes(width, "little") for end in ends)


def _value(kind: str, data: bytes) -> object:
    first = kind[0]
    if first in _SIZES:
        return _number(kind, data)
    if first in _TEXT:
        if not data.endswith(b"\0"):
            raise ValueError("a text without its end")
        return data[:-1].decode()
    if first == "v":
        at = data.rindex(b"\0")
        return _value(data[at + 1 :].decode("ascii"), data[:at])
    if first == "a":
        return _array(kind[1:], data)
    if first in _OPEN:
        return tuple(_members(_split(kind[1:-1]), data))
    raise ValueError(f"values of the type {kind!r} are not read")


def _number(kind: str, data: bytes) -> object:
    if len(data) != _SIZES[kind]:
        raise ValueError("a number of the wrong size")
    if kind == "b":
        return data != b"\0"
    return int.from_bytes(data, sys.byteorder, signed=kind in _SIGNED)


def _array(kind: str, data: bytes) -> object:
    if kind == "y":
        return data
    size = _fixed_size(kind)
    if size is not None:
        values = [_value(kind, data[at : at + size]) for at in range(0, len(data), size)]
    else:
        values = [_value(kind, data[start:end]) for start, end in _elements(kind, data)]
    if kind[0] == "{":
        pairs: dict[object, object] = {}
        for pair in values:
            assert isinstance(pair, tuple)  # noqa: S101 - what a dictionary entry decodes to
            pairs[pair[0]] = pair[1]
        return pairs
    return values


def _elements(kind: str, data: bytes) -> list[tuple[int, int]]:
    """Where the elements of an array of varying sizes begin and end."""
    if not data:
        return []
    width = _offset_width(len(data))
    body = int.from_bytes(data[-width:], "little")
    if body > len(data) or (len(data) - body) % width:
        raise ValueError("an array with wrong offsets")
    places: list[tuple[int, int]] = []
    start = 0
    alignment = _alignment(kind)
    for at in range(body, len(data), width):
        end = int.from_bytes(data[at : at + width], "little")
        places.append((_aligned(start, alignment), end))
        start = end
    return places


def _members(kinds: list[str], data: bytes) -> list[object]:
    """The members of a tuple or a dictionary entry."""
    width = _offset_width(len(data))
    offsets = len(data)
    values: list[object] = []
    position = 0
    for index, kind in enumerate(kinds):
        position = _aligned(position, _alignment(kind))
        size = _fixed_size(kind)
        if size is not None:
            end = position + size
        elif index == len(kinds) - 1:
            end = offsets
        else:
            offsets -= width
            end = int.from_bytes(data[offsets : offsets + width], "little")
        values.append(_value(kind, data[position:end]))
        position = end
    return values


def _split(kinds: str) -> list[str]:
    """The complete types that a row of them has."""
    found: list[str] = []
    start = depth = 0
    for at, letter in enumerate(kinds):
        depth += (letter in _OPEN) - (letter in ")}")
        if depth == 0 and letter != "a":
            found.append(kinds[start : at + 1])
            start = at + 1
    return found


def _alignment(kind: str) -> int:
    first = kind.lstrip("a")[0]
    if first in _OPEN:
        return max((_alignment(each) for each in _split(kind.lstrip("a")[1:-1])), default=1)
    return _ALIGNMENTS.get(first, 1)


def _fixed_size(kind: str) -> int | None:
    if kind[0] not in _OPEN:
        return _SIZES.get(kind)
    position = 0
    for each in _split(kind[1:-1]):
        size = _fixed_size(each)
        if size is None:
            return None
        position = _aligned(position, _alignment(each)) + size
    return _aligned(position, _alignment(kind)) or 1


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _offset_width(size: int) -> int:
    return 1 if size <= _NARROW else 2 if size <= _MEDIUM else 4
