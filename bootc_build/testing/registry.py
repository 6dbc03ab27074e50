"""The registry's part of the pytest plugin: the fixture, its options, and the check after each test."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bootc_build.testing.faults import NamedFault
    from bootc_build.vm.registry import Registry

_MARKER = "bootc_registry"
_SHARED = "bootc_registry_module"
_LOG_LINES = 60
_REGISTRIES: pytest.StashKey[list["Registry"]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line(
        "markers",
        "bootc_registry(tls=False, auth=None): options of the fixture bootc_registry; "
        "auth is a pair of user and password",
    )


@pytest.fixture
def bootc_registry(request: pytest.FixtureRequest) -> Iterator["Registry"]:
    """A registry on loopback, empty, for one test; the marker of the same name takes its options.

    After the test, what it expects of the registry's clients (`bootc_registry.faults`) is checked.
    """
    yield from _registry_of(request)


@pytest.fixture(scope="module")
def bootc_registry_module(request: pytest.FixtureRequest) -> Iterator["Registry"]:
    """The same for a registry that the tests of a module share, so that images are pushed once.

    Each test has expectations and a log of its own. Options come from `pytestmark` of the module.
    """
    yield from _registry_of(request)


@pytest.fixture
def bootc_fault(
    bootc_registry: "Registry",
) -> Callable[[str], AbstractContextManager["NamedFault"]]:
    """Let the test's registry have a fault for a while.

        with bootc_fault("stalled-layer") as fault:
            ...

    At the end of the block the fault must have happened; then it is over. `fault.passes` says whether a client
    that tries again by itself gets through. The names are those of `bootc_build.testing.faults.REGISTRY_FAULTS`.
    """
    from bootc_build.testing.faults import registry_fault  # noqa: PLC0415

    return partial(registry_fault, bootc_registry)


def _registry_of(request: pytest.FixtureRequest) -> Iterator["Registry"]:
    from bootc_build.vm.registry import Registry  # noqa: PLC0415

    with Registry(**_options(request.node)) as registry:
        registries = request.node.stash.setdefault(_REGISTRIES, [])
        registries.append(registry)
        yield registry
        registries.remove(registry)


def _options(node: pytest.Item | pytest.Collector) -> dict[str, Any]:
    marker = node.get_closest_marker(_MARKER)
    if marker is None:
        return {}
    unknown = sorted(set(marker.kwargs) - {"tls", "auth"})
    if marker.args or unknown:
        raise pytest.UsageError(
            f"{node.nodeid}: the marker {_MARKER} takes tls=… and auth=(user, password) only"
        )
    return dict(marker.kwargs)


def registries_of(node: pytest.Item | pytest.Collector) -> list["Registry"]:
    """Those that a test, or what a module shares, uses now; the shared one comes first."""
    shares = _SHARED in getattr(node, "fixturenames", ())
    nodes = node.listchain() if shares else [node]
    return [registry for each in nodes for registry in each.stash.get(_REGISTRIES, [])]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test does not inherit what the one before it expected and saw of a shared registry."""
    for registry in registries_of(item):
        registry.faults.clear()
        registry.forget_requests()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test that passes has to have seen what it expected; one that fails says enough already."""
    yield
    for registry in registries_of(item):
        registry.faults.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last requests of a failed test's registry."""
    report = yield
    if report.failed and report.when == "call":
        for registry in registries_of(item):
            lines = registry.log_text().splitlines()[-_LOG_LINES:]
            report.sections.append((f"registry {registry.address}", "\n".join(lines)))
    return report
