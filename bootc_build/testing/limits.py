"""The marker `bootc_timeout(seconds)`: how long a test may take.

The clock stands still while the test waits for what is not its own: a slot, a disk or a snapshot that is being
made. It does not run in the teardown, which has to come to its end. The seconds are those of a quiet computer
under TCG, as everywhere in the machine library.
"""

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

_LIMIT: pytest.StashKey["TimeLimit"] = pytest.StashKey()


class TimeLimit:
    """A clock that fails the test, in the main thread, when it has run for long enough.

    Args:
        seconds: how long it may run.
        nominal: what the marker says.
    """

    def __init__(self, seconds: float, nominal: float) -> None:
        self._left = self._seconds = seconds
        self._nominal = nominal
        self._since: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The clock runs inside."""
        before = signal.signal(signal.SIGALRM, self._ring)
        self._start()
        try:
            yield
        finally:
            self._stop()
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside."""
        was_running = self._since is not None
        self._stop()
        try:
            yield
        finally:
            if was_running:
                self._start()

    def _start(self) -> None:
        self._since = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(self._left, 0.001))

    def _stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._since is not None:
            self._left -= time.monotonic() - self._since
            self._since = None

    def _ring(self, *_signal: object) -> None:
        self._stop()
        pytest.fail(
            f"The test took longer than {self._seconds:.1f} seconds "
            f"(bootc_timeout({self._nominal:g}), scaled to this computer)."
        )


@contextmanager
def not_counted(config: pytest.Config) -> Iterator[None]:
    """What is done inside does not count for the running test's `bootc_timeout`."""
    limit = config.stash.get(_LIMIT, None)
    if limit is None:
        yield
        return
    with limit.paused():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Start the clock of a test that has one."""
    marker = item.get_closest_marker("bootc_timeout")
    if marker is None:
        return (yield)
    if len(marker.args) != 1 or marker.kwargs or not isinstance(marker.args[0], int | float):
        raise pytest.UsageError(f"{item.nodeid}: write the marker like bootc_timeout(60)")
    # This module is loaded in every pytest run, the machine library by those who use it.
    from bootc_build.vm.accel import find_acceleration  # noqa: PLC0415

    [nominal] = marker.args
    limit = item.config.stash[_LIMIT] = TimeLimit(find_acceleration().seconds(nominal), nominal)
    with limit.running():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Go on with the clock."""
    limit = item.config.stash.get(_LIMIT, None)
    if limit is None:
        return (yield)
    with limit.running():
        return (yield)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """The clock was this test's."""
    if _LIMIT in item.config.stash:
        del item.config.stash[_LIMIT]
