"""Which of the machines' tests run: a sample by itself, every one with `--all`.

Tests with the marker `long` are left out, and the run says how many, unless they are asked for: by `--all`, by
their whole name (`FILE::TEST`) or by a `-m` expression that speaks of them.
"""

import re
from typing import Any

import pytest

_LEFT_OUT: pytest.StashKey[int] = pytest.StashKey()
_OF_WORKER = "bootc_build_long_left_out"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that asks for all."""
    parser.addoption("--all", action="store_true", help="run the tests that are marked long, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is long, when nobody asked for it."""
    if config.getoption("--all") or re.search(r"\blong\b", config.getoption("-m") or ""):
        return
    named = tuple(argument for argument in config.args if "::" in argument)
    left_out = [
        item for item in items if item.get_closest_marker("long") and not _is_named(item, named)
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_LEFT_OUT] = len(left_out)
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OF_WORKER] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
    """With pytest-xdist the workers collect, every one of them all tests; this is the one that speaks."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get(_OF_WORKER, 0)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many did not run, and how they do."""
    if number := config.stash.get(_LEFT_OUT, 0):
        tests = "test was" if number == 1 else "tests were"
        terminalreporter.write_line(
            f"{number} long {tests} left out. All of them: ./dev test-vms --all", yellow=True
        )


def _is_named(item: pytest.Item, arguments: tuple[str, ...]) -> bool:
    """Whether the command line names the test itself, not only its file or folder."""
    own = item.nodeid.partition("::")[2].partition("[")[0]
    return any(one.partition("::")[2].partition("[")[0] == own for one in arguments)
