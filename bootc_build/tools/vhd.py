"""Fixed VHD files: a raw disk and 512 bytes after it, which qemu-img does not look for by itself.

Source: Microsoft's Virtual Hard Disk Image Format Specification.
"""

import os
import struct
from pathlib import Path

_FOOTER_BYTES = 512
# Cookie, then from byte 48 on: size of the disk, geometry, type.
_FOOTER = struct.Struct(">8s40xQ4xI")
_COOKIE = b"conectix"
_FIXED = 2


def fixed_disk_bytes(file: Path) -> int | None:
    """Size of the disk in a fixed VHD; None for what is none.

    Raises:
        OSError.
    """
    with file.open("rb", buffering=0) as opened:
        length = opened.seek(0, os.SEEK_END)
        if length < _FOOTER_BYTES:
            return None
        footer = os.pread(opened.fileno(), _FOOTER_BYTES, length - _FOOTER_BYTES)
    if len(footer) < _FOOTER.size:
        return None
    cookie, disk_bytes, kind = _FOOTER.unpack_from(footer)
    if cookie != _COOKIE or kind != _FIXED or disk_bytes > length - _FOOTER_BYTES:
        return None
    return int(disk_bytes)
