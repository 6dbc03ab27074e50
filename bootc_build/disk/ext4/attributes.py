"""Extended attributes as ext4 keeps them: in the inode as far as they fit, the others in a block.

Format: the kernel's ``fs/ext4/xattr.h`` and ``fs/ext4/acl.h``. Pure.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bootc_build.disk.ext4.scan import BLOCK

MAGIC: Final = 0xEA020000
_ENTRY: Final = struct.Struct("<BBHIII")
_HEADER: Final = struct.Struct("<IIIII12x")
_END: Final = 4
_WHOLE: Final = {"system.posix_acl_access": 2, "system.posix_acl_default": 3}
_PREFIXES: Final = {"user.": 1, "trusted.": 4, "security.": 6}
_ACL_USER, _ACL_GROUP = 2, 8


class TooLargeError(ValueError):
    """More attributes than an inode and a block hold."""


@dataclass(frozen=True)
class _Attribute:
    index: int
    name: bytes
    value: bytes

    @property
    def order(self) -> tuple[int, int, bytes]:
        return self.index, len(self.name), self.name

    @property
    def size(self) -> int:
        return _ENTRY.size + _padded(len(self.name)) + _padded(len(self.value))


def encode(xattrs: Mapping[str, bytes], room: int) -> tuple[bytes, bytes]:
    """What stands in the inode, and in a block (empty: none is needed).

    Args:
        xattrs: name -> value, as ``getxattr`` gives them; what no ext4 could have is left out.
        room: bytes that there are in the inode.

    Raises:
        TooLargeError: they do not fit.
    """
    inside: list[_Attribute] = []
    outside: list[_Attribute] = []
    left = room - 4 - _END
    for each in sorted(_known(xattrs), key=lambda each: each.order):
        if each.size <= left:
            inside.append(each)
            left -= each.size
        else:
            outside.append(each)
    if sum(each.size for each in outside) > BLOCK - _HEADER.size - _END:
        raise TooLargeError
    in_inode = b""
    if inside:
        area, _hashes = _area(inside, room - 4, 0)
        in_inode = MAGIC.to_bytes(4, "little") + area
    if not outside:
        return in_inode, b""
    area, hashes = _area(outside, BLOCK - _HEADER.size, _HEADER.size)
    summed = 0
    for entry in hashes:
        summed = _rotated(summed, 16) ^ entry
    return in_inode, _HEADER.pack(MAGIC, 1, 1, summed, 0) + area


def _known(xattrs: Mapping[str, bytes]) -> list[_Attribute]:
    found = []
    for name, value in xattrs.items():
        if name in _WHOLE:
            found.append(_Attribute(_WHOLE[name], b"", _acl(value)))
            continue
        for prefix, index in _PREFIXES.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix).encode(errors="surrogateescape")
                found.append(_Attribute(index, rest, value))
    return found


def _area(attributes: list[_Attribute], size: int, before: int) -> tuple[bytes, list[int]]:
    """Entries from the front and values from the back; offsets count from so many bytes before."""
    entries, values, hashes = b"", b"", []
    for each in attributes:
        values = each.value.ljust(_padded(len(each.value)), b"\0") + values
        at = before + size - len(values) if each.value else 0
        hashes.append(_hash(each))
        entries += _ENTRY.pack(len(each.name), each.index, at, 0, len(each.value), hashes[-1])
        entries += each.name.ljust(_padded(len(each.name)), b"\0")
    return entries + bytes(size - len(entries) - len(values)) + values, hashes


def _hash(attribute: _Attribute) -> int:
    summed = 0
    for byte in attribute.name:
        summed = _rotated(summed, 5) ^ byte
    value = attribute.value.ljust(_padded(len(attribute.value)), b"\0")
    for (word,) in struct.iter_unpack("<I", value):
        summed = _rotated(summed, 16) ^ word
    return summed


def _rotated(number: int, by: int) -> int:
    return (number << by | number >> (32 - by)) & 0xFFFFFFFF


def _acl(value: bytes) -> bytes:
    """An access control list: the kernel's has an id in each entry, the disk's where it means something."""
    found = struct.pack("<I", 1)
    for tag, permissions, number in struct.iter_unpack("<HHI", value[4:]):
        found += struct.pack("<HH", tag, permissions)
        if tag in {_ACL_USER, _ACL_GROUP}:
            found += struct.pack("<I", number)
    return found


def _padded(size: int) -> int:
    return -(-size // 4) * 4
