"""A kernel of which the end is missing is told from its first bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.host.kernel_file import HEAD_BYTES, whole_length
from bootc_build.tools.buildah import image_exists, working_container
from tests.kernels import small_arm_kernel, small_kernel

BASE = "localhost/bootc-build-test/base:trixie"


@pytest.mark.parametrize(
    "kernel", [small_kernel(), small_kernel(signed=b"x" * 100), small_arm_kernel()]
)
def test_the_length_of_a_kernel_is_in_its_head(kernel: bytes) -> None:
    assert whole_length(kernel[:HEAD_BYTES]) == len(kernel)


def test_the_headers_of_the_boot_protocol_are_enough() -> None:
    kernel = b"\0\0" + small_kernel()[2:]  # no EFI stub
    assert whole_length(kernel) == len(kernel)


@given(st.binary(max_size=HEAD_BYTES))
def test_what_is_no_kernel_has_no_length(content: bytes) -> None:
    assert whole_length(b"\x1f\x8b" + content) == 0


@given(st.integers(0, 700), st.integers(0, 255))
def test_a_damaged_head_is_no_error(place: int, value: int) -> None:
    kernel = bytearray(small_kernel(signed=b"x"))
    kernel[place] = value
    assert whole_length(bytes(kernel)) >= 0
    assert whole_length(bytes(kernel[:place])) >= 0


@pytest.mark.base_image
def test_the_kernel_of_debian_ends_where_its_head_says() -> None:
    if not image_exists(BASE):
        pytest.skip(f"{BASE} is not built; see: bootc-build base")
    with working_container(BASE) as made:
        [kernel] = Path(made.mount()).glob("usr/lib/modules/*/vmlinuz")
        content = kernel.read_bytes()
    assert whole_length(content[:HEAD_BYTES]) == len(content)
