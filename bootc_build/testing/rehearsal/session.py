"""Runs the checks in pytest, in this process, and listens to what comes of each."""

import io
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.progress import Progress
from bootc_build.testing.rehearsal.outcome import Check, Outcome, Rehearsed
from bootc_build.testing.rerun import RERUN
from bootc_build.testing.subject import CHECKS, NODE
from bootc_build.tools.buildah import image_id

_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Failed|Exit): ")


@dataclass(frozen=True)
class Rehearsal:
    """What is to be rehearsed.

    Args:
        image: name or id of an image in local storage.
        upgrade_to: the image that it is to be upgraded to; None makes one with a small layer more.
        files: pytest files or tests of the user's own.
        built_in: make the built-in checks, too.
        options: for pytest.
        command: as the user would type all of this again, for reports.
        aloud: show all that pytest says, on standard error.
    """

    image: str
    upgrade_to: str | None = None
    files: Sequence[str] = ()
    built_in: bool = True
    options: Sequence[str] = ()
    command: Sequence[str] = ()
    aloud: bool = False


def rehearse(rehearsal: Rehearsal, progress: Progress) -> Rehearsed:
    """Make all checks; a failed one is in the result, not an error.

    Raises:
        UsageError: a file or an option is not one, or there is nothing to check.
        UserError: an image is not in local storage; pytest could not come to its end.
        KeyboardInterrupt, SystemExit: interrupted; no machine is left.
    """
    for name in filter(None, (rehearsal.image, rehearsal.upgrade_to)):
        image_id(name)
    listener = _Listener(rehearsal, progress)
    begun = time.monotonic()
    said: io.StringIO | None = None if rehearsal.aloud else io.StringIO()
    with redirect_stdout(said or sys.stderr), _signals_end_pytest():
        status = pytest.main(_arguments(rehearsal), plugins=[listener])
    seconds = time.monotonic() - begun
    if listener.signal:
        raise SystemExit(128 + listener.signal)
    if listener.interrupted:
        raise KeyboardInterrupt
    if status == pytest.ExitCode.USAGE_ERROR:
        raise UsageError("pytest refuses these arguments.", "What it says stands above.")
    if listener.not_collected:
        raise UsageError("\n".join(listener.not_collected), "Mend the file and begin again.")
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError("There is nothing to check.", "Name a file with tests.")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise UserError(f"pytest did not come to its end.\n{said.getvalue() if said else ''}")
    return Rehearsed(rehearsal.image, listener.checks, seconds)


def _arguments(rehearsal: Rehearsal) -> list[str]:
    chosen = [str(CHECKS)] if rehearsal.built_in else []
    return [
        *("--bootc-image", rehearsal.image),
        *(["--bootc-upgrade-to", rehearsal.upgrade_to] if rehearsal.upgrade_to else []),
        # This process has imported parts of this package already, and that does no harm.
        *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
        f"--rootdir={Path.cwd()}",
        # The checks follow each other on one machine.
        *(["-n0", "--dist=loadfile"] if find_spec("xdist") else []),
        *rehearsal.options,
        *chosen,
        *rehearsal.files,
    ]


@contextmanager
def _signals_end_pytest() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run in good order; pytest would take a SystemExit for a failed test."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise pytest.exit.Exception(f"signal {number}", returncode=128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Listener:
    """A pytest plugin that tells of each check and keeps what came of it."""

    def __init__(self, rehearsal: Rehearsal, progress: Progress) -> None:
        self._checks: dict[str, Check] = {}
        self.not_collected: list[str] = []
        self.interrupted = False
        self.signal = 0
        self._rehearsal = rehearsal
        self._progress = progress

    @property
    def checks(self) -> tuple[Check, ...]:
        """What came of all that was run, in that order."""
        return tuple(self._checks.values())

    def pytest_configure(self, config: pytest.Config) -> None:
        """Tell reports how to do this again."""
        config.stash[RERUN] = self._rerun

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read as tests."""
        if report.failed:
            self.not_collected.append(f"{report.nodeid}: {report.longreprtext}")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what is looked at now."""
        self._progress.step(_title(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what came of a phase of a test: of a failure, the first one; what passed may still end badly."""
        known = self._checks.get(report.nodeid)
        if (report.passed and report.when != "call") or (known and known.outcome is Outcome.FAILED):
            return
        outcome = _outcome(report)
        reason = "" if outcome is Outcome.PASSED else _reason(report)
        if outcome is Outcome.FAILED:
            self._progress.step(f"FAILED: {_title(report.nodeid)}: {reason}")
            self._progress.detail(report.longreprtext)
        elif reason:
            self._progress.step(reason)
        self._checks[report.nodeid] = Check(
            title=_title(report.nodeid),
            outcome=outcome,
            seconds=report.duration,
            reason=reason,
            details=_details(report),
            built_in=_is_built_in(report.nodeid),
        )

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C, a signal, or a test that ends the run."""
        if isinstance(excinfo.value, pytest.Session.Interrupted):
            return  # A file could not be collected.
        status = getattr(excinfo.value, "returncode", None)
        if status is not None and status > 128:  # noqa: PLR2004 - a signal's
            self.signal = status - 128
        self.interrupted = True

    def _rerun(self, nodeid: str) -> str:
        own = [] if _is_built_in(nodeid) else [nodeid]
        return shlex.join([*self._rehearsal.command, *own])


def _is_built_in(nodeid: str) -> bool:
    return nodeid.startswith(f"{NODE}::")


def _title(nodeid: str) -> str:
    path, _, name = nodeid.partition("::")
    name, bracket, parameters = name.partition("[")
    words = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    where = "" if path == NODE else f"{path}: "
    return f"{where}{words}{bracket}{parameters}"


def _outcome(report: pytest.TestReport) -> Outcome:
    if report.passed or hasattr(report, "wasxfail"):
        return Outcome.PASSED
    if report.failed:
        return Outcome.FAILED
    return Outcome.NOT_REACHED if _is_built_in(report.nodeid) else Outcome.LEFT_OUT


def _reason(report: pytest.TestReport) -> str:
    """Why, in the words of the exception; for an assertion, the line that pytest marks."""
    if report.skipped:
        return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return report.longreprtext.strip()
    message = str(crash.message)
    return _EXCEPTION.sub("", message).strip() or message


def _details(report: pytest.TestReport) -> str:
    sections = "".join(f"\n--- {title}\n{text}\n" for title, text in report.sections)
    return "" if report.passed else f"{report.longreprtext}\n{sections}"
