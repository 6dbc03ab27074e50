from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.tools.buildah import image_exists, image_id, remove_image, working_container

_IMAGE = "localhost/bootc-build-test/small-kernel:1"


@pytest.fixture
def image() -> Iterator[str]:
    with working_container("scratch") as container:
        modules = container.mount() / "usr/lib/modules/1"
        modules.mkdir(parents=True)
        (modules / "initramfs.img").write_bytes(b"initramfs")
        container.commit(_IMAGE, timestamp=1)
    yield _IMAGE
    remove_image(_IMAGE)


def test_two_at_a_time_do_not_remove_each_others_image(image: str) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(with_another_initramfs(image))
        with with_another_initramfs(image) as second:
            assert image_id(first) == image_id(second)
        assert image_exists(first)
        assert not image_exists(second)
    assert not image_exists(first)
