"""What a directory object of ostree says, read and written without libostree.

A dirtree object is a GVariant of type ``(a(say)a(sayay))``: files with the checksum of their content object,
directories with those of their dirtree and dirmeta objects, both sorted by name. PyGObject makes a Python
list of integers of every checksum, which is far too slow for a tree of 60,000 files; the serialisation is
simple enough to do by hand (GVariant specification, sections 2.3 and 2.5: everything in it has alignment 1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

DIRTREE_TYPE = "(a(say)a(sayay))"
_CHECKSUM = 32


@dataclass(slots=True)
class Directory:
    """Names of a directory: files to checksums, directories to checksums of dirtree and dirmeta (all hex)."""

    files: dict[str, str] = field(default_factory=dict)
    dirs: dict[str, tuple[str, str]] = field(default_factory=dict)


def encode(directory: Directory) -> bytes:
    """Serialise a dirtree object."""
    files = _array(
        [
            _tuple((name.encode() + b"\0",), bytes.fromhex(content))
            for name, content in sorted(directory.files.items())
        ]
    )
    dirs = _array(
        [
            _tuple((name.encode() + b"\0", bytes.fromhex(tree)), bytes.fromhex(meta))
            for name, (tree, meta) in sorted(directory.dirs.items())
        ]
    )
    return _tuple((files,), dirs)


def decode(data: bytes) -> Directory:
    """Read a dirtree object."""
    if not data:
        return Directory()
    width = _offset_width(len(data))
    boundary = int.from_bytes(data[-width:], "little")
    directory = Directory()
    for start, end in _elements(data, 0, boundary):
        name_end = data.index(b"\0", start, end)
        content = data[name_end + 1 : name_end + 1 + _CHECKSUM]
        directory.files[data[start:name_end].decode()] = content.hex()
    for start, end in _elements(data, boundary, len(data) - width):
        at = data.index(b"\0", start, end) + 1
        tree = data[at : at + _CHECKSUM]
        meta = data[at + _CHECKSUM : at + 2 * _CHECKSUM]
        directory.dirs[data[start : at - 1].decode()] = (tree.hex(), meta.hex())
    return directory


def _offset_width(size: int) -> int:
    """Bytes of a framing offset in a container of ``size`` bytes, its offsets included."""
    return 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4  # noqa: PLR2004 - the format's own limits


def _width_for(body: int, offsets: int) -> int:
    return next(width for width in (1, 2, 4) if _offset_width(body + offsets * width) <= width)


def _tuple(variable: Sequence[bytes], last: bytes) -> bytes:
    """A tuple: each member but the last has its end written behind all of them, in reverse order."""
    ends: list[int] = []
    position = 0
    for member in variable:
        position += len(member)
        ends.append(position)
    width = _width_for(position + len(last), len(ends))
    return b"".join((*variable, last, *(end.to_bytes(width, "little") for end in reversed(ends))))


def _array(items: Sequence[bytes]) -> bytes:
    if not items:
        return b""
    ends: list[int] = []
    position = 0
    for item in items:
        position += len(item)
        ends.append(position)
    width = _width_for(position, len(ends))
    return b"".join((*items, *(end.to_bytes(width, "little") for end in ends)))


def _elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the elements of an array are that lies between two positions."""
    if start == end:
        return
    width = _offset_width(end - start)
    body_end = start + int.from_bytes(data[end - width : end], "little")
    position = start
    for at in range(body_end, end, width):
        stop = start + int.from_bytes(data[at : at + width], "little")
        yield position, stop
        position = stop
