"""The pytest plugin: machines and a registry as fixtures, and what a failed test leaves to read.

It is loaded in every pytest run where this package is installed, so what is heavy is imported by those who
use it.
"""

import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootc_build.onhost.errors import UserError

if TYPE_CHECKING:
    from bootc_build.testing.factory import MachineFactory
    from bootc_build.vm.machine import Machine

pytest_plugins = ["bootc_build.testing.registry"]

_JOURNAL_SECONDS = 60.0
_TAIL_LINES = 30
_MACHINES: pytest.StashKey[list["Machine"]] = pytest.StashKey()
_FAILED: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    group = parser.getgroup("bootc", "virtual machines of bootable images")
    group.addoption("--bootc-accel", choices=("kvm", "tcg"), help="how QEMU runs guests")
    group.addoption(
        "--bootc-keep",
        choices=("failed", "all"),
        default="failed",
        help="of which tests the console logs stay (default: failed)",
    )
    group.addoption(
        "--bootc-artifacts",
        type=Path,
        metavar="DIR",
        help="folder for console logs and journals (default: one of pytest's temporary folders)",
    )


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the journal of a failed test's machines and name the files in its report."""
    report = yield
    if report.failed:
        for node in item.listchain():
            node.stash[_FAILED] = True
            if report.when != "teardown":
                report.sections += [_section(one) for one in node.stash.get(_MACHINES, [])]
    return report


def _machines_of(request: pytest.FixtureRequest, artifacts: Path) -> Iterator["MachineFactory"]:
    from bootc_build.testing.factory import MachineFactory  # noqa: PLC0415

    node = request.node
    folder = artifacts / re.sub(r"[^\w.=-]+", "_", node.nodeid).strip("_")
    machines = node.stash.setdefault(_MACHINES, [])
    with ExitStack() as stack:
        yield MachineFactory(stack, folder, request.config.getoption("--bootc-accel"), machines)
    machines.clear()
    keep_all = request.config.getoption("--bootc-keep") == "all"
    if not keep_all and not node.stash.get(_FAILED, False):
        shutil.rmtree(folder, ignore_errors=True)


def _section(machine: "Machine") -> tuple[str, str]:
    said = [f"console log: {machine.log_path}"]
    journal = machine.log_path.with_suffix(".journal")
    with suppress(UserError):  # A machine in trouble has none to give.
        journal.write_text(machine.journal(seconds=_JOURNAL_SECONDS))
        said.append(f"journal: {journal}")
    with suppress(OSError):
        lines = machine.log_path.read_text(errors="backslashreplace").splitlines()
        said += ["", *lines[-_TAIL_LINES:]]
    return f"machine '{machine.spec.name}'", "\n".join(said)
