"""A kernel with headers as real ones have them, and nothing behind."""

import struct


def small_kernel(*, signed: bytes = b"") -> bytes:
    """A bzImage of two setup sectors and 64 paragraphs, with an EFI stub of one section and a signature."""
    content = bytearray(3 * 512 + 64 * 16)
    content[:2] = b"MZ"
    content[0x1F1] = 2
    struct.pack_into("<I", content, 0x1F4, 64)
    content[0x1FE:0x200] = b"\x55\xaa"
    content[0x202:0x206] = b"HdrS"
    return bytes(_as_efi_program(content, signed))


def small_arm_kernel() -> bytes:
    """What an EFI stub makes of other architectures' kernels."""
    return bytes(_as_efi_program(bytearray(b"MZ") + bytearray(2046), b""))


def _as_efi_program(content: bytearray, signed: bytes) -> bytearray:
    size = len(content)
    struct.pack_into("<I", content, 0x3C, 0x40)
    content[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", content, 0x46, 1)
    struct.pack_into("<H", content, 0x54, 160)
    struct.pack_into("<H", content, 0x58, 0x20B)
    struct.pack_into("<I", content, 0x58 + 108, 6)
    if signed:
        struct.pack_into("<II", content, 0x58 + 112 + 32, size, len(signed))
    struct.pack_into("<II", content, 0x58 + 160 + 16, size - 0x200, 0x200)
    return content + signed
