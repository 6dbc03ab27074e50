"""What is said of an image that is not as it should be."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.inspection.image import inspect_image
from bootc_build.onhost.process import run


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """One whose kernel arguments are written wrongly."""
    name = f"localhost/bootc-build-test/inspected-{uuid.uuid4().hex[:12]}:1"
    (tmp_path / "os-release").write_text('PRETTY_NAME="Small OS"\n')
    (tmp_path / "10.toml").write_text('kargs = "quiet"\n')
    (tmp_path / "Containerfile").write_text(
        "FROM scratch\nCOPY os-release /usr/lib/os-release\nCOPY 10.toml /usr/lib/bootc/kargs.d/\n"
    )
    run(["buildah", "build", "--quiet", "--layers", "-t", name, str(tmp_path)])
    yield name
    run(["buildah", "rmi", "--force", name], check=False)


def test_wrong_kernel_arguments_hide_nothing_else(image: str) -> None:
    found = inspect_image(image)
    assert found.contents.system == "Small OS"
    assert found.kernel_arguments == ()
    [note] = found.notes
    assert "/usr/lib/bootc/kargs.d/10.toml: 'kargs' is not a list" in note
