"""The images under test: what `--bootc-image` and `--bootc-upgrade-to` name, as fixtures.

Part of the pytest plugin. `bootc-build test` gives the options; a plain pytest run may as well.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.testing.image import Image
from bootc_build.testing.options import chosen

CHECKS = Path(__file__).with_name("rehearsal") / "checks.py"
# What the ids of the built-in checks begin with, wherever this package is installed.
NODE = "rehearsal"
# What the image has in which the made upgrade differs from the image under test.
ADDED_PATH = "usr/share/bootc-build/rehearsal"
_NAMES = "localhost/bootc-build-testing/upgrade"
_DIGITS = 12


class _Checks(pytest.Module):
    """The built-in checks, which are there whatever the user's configuration calls tests."""

    def funcnamefilter(self, name: str) -> bool:
        """Whether a function is a test."""
        return name.startswith("test_")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Give the built-in checks short names."""
    if module_path != CHECKS:
        return None
    return _Checks.from_parent(parent, path=module_path, nodeid=NODE)


@pytest.fixture(scope="session")
def bootc_image(request: pytest.FixtureRequest) -> Image:
    """The image under test, which `--bootc-image` names."""
    name = chosen(request.config, "image")
    if name is None:
        raise pytest.UsageError(
            "The fixture bootc_image needs an image: run 'bootc-build test IMAGE FILE', "
            "or give pytest --bootc-image IMAGE."
        )
    return Image(name)


@pytest.fixture(scope="session")
def bootc_next_image(request: pytest.FixtureRequest, bootc_image: Image) -> Iterator[Image]:
    """The image to upgrade to: `--bootc-upgrade-to`, or else the one under test with a small layer more.

    The one that is made here is removed at the end of the run.
    """
    name = chosen(request.config, "upgrade-to")
    if name is not None:
        yield Image(name)
        return
    from bootc_build.tools.buildah import remove_image  # noqa: PLC0415 - pytest starts without it

    made = with_one_layer_more(bootc_image)
    yield Image(made)
    remove_image(made)


def with_one_layer_more(image: Image) -> str:
    """An image that differs in one small file; its name in local storage.

    Raises:
        UserError: the image is not in local storage, or there is no space.
    """
    from bootc_build.tools.buildah import build, tag_image  # noqa: PLC0415 - pytest starts without it

    identifier = image.id
    with tempfile.TemporaryDirectory(prefix="bootc-build-upgrade-") as folder:
        Path(folder, "added").write_text(f"One layer more than {identifier}.\n")
        text = f"FROM {identifier}\nCOPY --chmod=0644 added /{ADDED_PATH}\n"
        Path(folder, "Containerfile").write_text(text)
        flags = ["--quiet", "--pull=never", "--layers=false", "--format=oci"]
        made = build([*flags, folder], lambda _line: None)
    name = f"{_NAMES}:{made[:_DIGITS]}"
    tag_image(made, [name])
    return name
