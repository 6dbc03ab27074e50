"""The pytest plugin: machines and a registry as fixtures, and what a failed test leaves to read.

It is loaded in every pytest run where this package is installed, so what is heavy is imported by those who
use it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bootc_build.testing.factory import MachineFactory

pytest_plugins = ["bootc_build.testing.registry"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    group = parser.getgroup("bootc", "virtual machines of bootable images")
    group.addoption("--bootc-accel", choices=("kvm", "tcg"), help="how QEMU runs guests")
    group.addoption(
        "--bootc-keep",
        choices=("failed", "all"),
        default="failed",
        help="of which tests the machines' files stay (default: failed)",
    )
    group.addoption(
        "--bootc-artifacts",
        type=Path,
        metavar="DIR",
        help="folder for the machines' files (default: one of pytest's temporary folders)",
    )
    group.addoption(
        "--bootc-shell-on-fail",
        action="store_true",
        help="when a test fails, put its machines' consoles on the terminal, one after the other",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and set up what this run tells of its machines."""
    config.addinivalue_line(
        "markers", "bootc_cold: its machines boot instead of being restored from a snapshot"
    )
    from bootc_build.testing.evidence import Evidence, check_options  # noqa: PLC0415

    check_options(config)
    config.pluginmanager.register(Evidence(config), "bootc-evidence")


@pytest.fixture(scope="session")
def bootc_artifacts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder for what tests leave behind."""
    chosen: Path | None = request.config.getoption("--bootc-artifacts")
    if chosen is None:
        return tmp_path_factory.mktemp("bootc-artifacts")
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen.resolve()


@pytest.fixture
def bootc_vm(request: pytest.FixtureRequest, bootc_artifacts: Path) -> Iterator["MachineFactory"]:
    """Boot machines: `bootc_vm(image_or_disk, firmware=…)`; all are gone when the test ends."""
    yield from _machines_of(request, bootc_artifacts)


@pytest.fixture(scope="module")
def bootc_vm_module(
    request: pytest.FixtureRequest, bootc_artifacts: Path
) -> Iterator["MachineFactory"]:
    """The same for machines that the tests of a module share."""
    yield from _machines_of(request, bootc_artifacts)


def _machines_of(request: pytest.FixtureRequest, artifacts: Path) -> Iterator["MachineFactory"]:
    from bootc_build.testing.artifacts import folder_name, remove_folder  # noqa: PLC0415
    from bootc_build.testing.evidence import FOLDERS, MACHINES  # noqa: PLC0415
    from bootc_build.testing.factory import MachineFactory  # noqa: PLC0415

    node = request.node
    folder = artifacts / folder_name(node.nodeid)
    remove_folder(folder)  # An earlier run's.
    machines = node.stash.setdefault(MACHINES, [])
    with ExitStack() as stack:
        yield MachineFactory(
            stack,
            folder,
            request.config.getoption("--bootc-accel"),
            machines,
            cold=node.get_closest_marker("bootc_cold") is not None,
        )
    machines.clear()
    request.config.stash.setdefault(FOLDERS, []).append((node, folder))
