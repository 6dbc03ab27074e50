"""How long a kernel has to be, by what its first bytes say: one whose end is missing may be started all the same.

GRUB on UEFI without Secure Boot hands a kernel that was cut to the firmware, which stops with an exception, for
somebody to restart. So it is not queued in the first place.

Sources: the kernel's Documentation/arch/x86/boot.rst (``setup_sects`` and ``syssize``); Microsoft's PE format
(sections, certificate table), which EFI stubs have on all architectures.
"""

import struct
from typing import Final

# All headers of the kernels that distributions build lie within the first kilobyte.
HEAD_BYTES: Final = 4096

_SECTOR: Final = 512
_BOOT_FLAG: Final = (0x1FE, b"\x55\xaa")
_X86_MAGIC: Final = (0x202, b"HdrS")
_SETUP_SECTORS: Final = 0x1F1
_SYSTEM_SIZE: Final = 0x1F4
_PARAGRAPH: Final = 16
_PE_OFFSET: Final = 0x3C
_PE_MAGIC: Final = b"PE\0\0"
_COFF_BYTES: Final = 24
# Optional header: its magic, and where in it the number of data directories is.
_DIRECTORIES: Final = {0x10B: 92, 0x20B: 108}
_CERTIFICATES: Final = 4
_SECTION_BYTES: Final = 40


def whole_length(head: bytes) -> int:
    """Bytes that a kernel has at least when nothing of it is missing; 0 where its head does not tell.

    Args:
        head: its first `HEAD_BYTES` bytes, or all that there are.
    """
    return max(_of_x86(head), _of_pe(head))


def _of_x86(head: bytes) -> int:
    if not all(head[at : at + len(magic)] == magic for at, magic in (_BOOT_FLAG, _X86_MAGIC)):
        return 0
    setup_sectors = head[_SETUP_SECTORS] or 4  # 0 means 4, as ever
    (paragraphs,) = struct.unpack_from("<I", head, _SYSTEM_SIZE)
    return int((setup_sectors + 1) * _SECTOR + paragraphs * _PARAGRAPH)


def _of_pe(head: bytes) -> int:
    """Where the last section or the certificates end."""
    try:
        if head[:2] != b"MZ":
            return 0
        (start,) = struct.unpack_from("<I", head, _PE_OFFSET)
        if head[start : start + len(_PE_MAGIC)] != _PE_MAGIC:
            return 0
        (sections,) = struct.unpack_from("<H", head, start + 6)
        (optional_bytes,) = struct.unpack_from("<H", head, start + 20)
        optional = start + _COFF_BYTES
        ends = [_end_of_certificates(head, optional)]
        for number in range(sections):
            section = optional + optional_bytes + number * _SECTION_BYTES
            size, offset = struct.unpack_from("<II", head, section + 16)
            ends.append(offset + size if size else 0)
    except struct.error:  # the headers themselves do not end here
        return 0
    return max(ends)


def _end_of_certificates(head: bytes, optional: int) -> int:
    (magic,) = struct.unpack_from("<H", head, optional)
    count_at = _DIRECTORIES.get(magic)
    if count_at is None:
        return 0
    (count,) = struct.unpack_from("<I", head, optional + count_at)
    if count <= _CERTIFICATES:
        return 0
    # Unlike the other directories' it is an offset in the file, not an address.
    offset, size = struct.unpack_from("<II", head, optional + count_at + 4 + 8 * _CERTIFICATES)
    return int(offset + size)
