import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install.bootsector import MBR_CODE_BYTES, patch_boot_image, patch_core_image


def boot_image() -> bytes:
    image = bytearray(b"\xcc" * 512)
    image[510:] = b"\x55\xaa"
    return bytes(image)


def core_image(size: int, segment: int = 0x820) -> bytes:
    image = bytearray(index % 251 for index in range(size))
    struct.pack_into("<QHH", image, 0x1F4, 2, 0, segment)
    return bytes(image)


def test_boot_sector_points_at_core_and_trusts_the_drive_number() -> None:
    code = patch_boot_image(boot_image(), 0x123456789A)
    assert len(code) == MBR_CODE_BYTES
    assert struct.unpack_from("<Q", code, 0x5C) == (0x123456789A,)
    assert code[0x66:0x68] == b"\x90\x90"
    untouched = [i for i in range(MBR_CODE_BYTES) if not (0x5C <= i < 0x64 or 0x66 <= i < 0x68)]
    assert all(code[i] == 0xCC for i in untouched)


@given(size=st.integers(513, 200_000), sector=st.integers(1, 2**40))
def test_core_loads_every_sector_after_its_first(size: int, sector: int) -> None:
    core = core_image(size)
    patched = patch_core_image(core, sector)
    start, length, segment = struct.unpack_from("<QHH", patched, 0x1F4)
    assert (start, segment) == (sector + 1, 0x820)
    assert (length + 1) * 512 == len(patched)
    assert 0 <= len(patched) - size < 512
    assert patched[:0x1F4] == core[:0x1F4]
    assert patched[0x200:size] == core[0x200:]
    assert not any(patched[size:])


@pytest.mark.parametrize("bad", [b"", b"\0" * 512, boot_image()[:-1], boot_image() * 2])
def test_what_is_no_boot_sector_is_refused(bad: bytes) -> None:
    with pytest.raises(UserError, match=r"boot\.img is not a boot sector"):
        patch_boot_image(bad, 2048)


@pytest.mark.parametrize(
    "bad", [b"", b"\0" * 512, core_image(30_000, segment=0x1000), b"\0" * 2**26]
)
def test_what_is_no_core_image_is_refused(bad: bytes) -> None:
    with pytest.raises(UserError, match=r"core\.img"):
        patch_core_image(bad, 2048)
