"""The pytest plugin: machines and a registry as fixtures, and what a failed test leaves to read.

It is loaded in every pytest run where this package is installed, so what is heavy is imported by those who
use it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootc_build.testing.options import chosen_path, declare

if TYPE_CHECKING:
    from bootc_build.testing.factory import MachineFactory
    from bootc_build.vm.network import PrivateNetwork

pytest_plugins = [
    "bootc_build.testing.registry",
    "bootc_build.testing.limits",
    "bootc_build.testing.subject",
]

_MARKERS = (
    "bootc_vm(memory=MIB, cpus=N, firmware=KIND, tpm=BOOL, machines=N): what its machines are made of, and how many",
    "bootc_allow_console(pattern, ...): console lines that look like trouble and are wanted",
    "bootc_cold: its machines boot instead of being restored from a snapshot",
    "bootc_timeout(seconds): how long it may take on a quiet computer, without waiting for its machines",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    group = parser.getgroup("bootc", "virtual machines of bootable images")
    declare(parser, group)
    group.addoption(
        "--bootc-shell-on-fail",
        action="store_true",
        help="when a test fails, put its machines' consoles on the terminal, one after the other",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and set up what this run tells of its machines."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    from bootc_build.testing.evidence import Evidence, check_options  # noqa: PLC0415

    check_options(config)
    config.pluginmanager.register(Evidence(config), "bootc-evidence")
    from bootc_build.testing.report.collect import ReportCollector, report_path  # noqa: PLC0415

    if (path := report_path(config)) is not None:
        config.pluginmanager.register(ReportCollector(path), "bootc-report")


@pytest.fixture(scope="session")
def bootc_artifacts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder for what tests leave behind."""
    folder = chosen_path(request.config, "artifacts")
    if folder is None:
        return tmp_path_factory.mktemp("bootc-artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


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


@pytest.fixture
def bootc_network() -> Iterator["PrivateNetwork"]:
    """A private network for the test's machines: `bootc_vm(image, networks=[bootc_network])`."""
    from bootc_build.vm.network import PrivateNetwork  # noqa: PLC0415 - not for runs without machines

    with PrivateNetwork() as network:
        yield network


def _machines_of(request: pytest.FixtureRequest, artifacts: Path) -> Iterator["MachineFactory"]:
    from bootc_build.testing.artifacts import folder_name, remove_folder  # noqa: PLC0415
    from bootc_build.testing.evidence import FOLDERS, MACHINES  # noqa: PLC0415
    from bootc_build.testing.factory import MachineFactory  # noqa: PLC0415
    from bootc_build.testing.registry import registries_of  # noqa: PLC0415

    node = request.node
    folder = artifacts / folder_name(node.nodeid)
    remove_folder(folder)  # An earlier run's.
    machines = node.stash.setdefault(MACHINES, [])
    with ExitStack() as stack:
        factory = MachineFactory(stack, folder, node, machines)
        factory.registries = partial(registries_of, node)
        yield factory
    machines.clear()
    request.config.stash.setdefault(FOLDERS, []).append((node, folder))
