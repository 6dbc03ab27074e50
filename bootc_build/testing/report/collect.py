"""The part of the pytest plugin that gathers what the report tells; one for each run, in the process that reports."""

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from bootc_build.testing.artifacts import MachineArtifacts
from bootc_build.testing.options import chosen_path
from bootc_build.testing.report.records import MachineEntry, ReportedRun, ReportedTest

_CONSOLE_SECTIONS = ("machine ", "run it again")


class ReportCollector:
    """A pytest plugin.

    Args:
        path: of the HTML file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = time.time()
        self._tests: dict[str, ReportedTest] = {}
        self._machines: dict[str, MachineEntry] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that could not be read as tests is a failure."""
        if report.failed:
            test = self._test(report.nodeid)
            test.outcome, test.failure = "error", report.longreprtext

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came of one phase of a test."""
        test = self._test(report.nodeid)
        test.seconds += report.duration
        if report.failed:
            test.outcome = "failed" if report.when == "call" else "error"
            test.failure += f"{report.longreprtext}\n"
        elif report.skipped and test.outcome == "passed":
            test.outcome = "expected failure" if hasattr(report, "wasxfail") else "skipped"
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            test.failure = getattr(report, "wasxfail", "") or str(reason)
        for title, text in report.sections:
            if not title.startswith(_CONSOLE_SECTIONS):
                test.sections[title] = text
        told = getattr(report, "bootc", {"machines": [], "rerun": ""})
        test.rerun = told["rerun"] or test.rerun
        for entry in told["machines"]:
            artifacts = MachineArtifacts.parse(entry)
            key = f"{artifacts.folder}/{artifacts.name}"
            machine = self._machines.setdefault(key, MachineEntry(len(self._machines), artifacts))
            if machine.number not in test.machines:
                test.machines.append(machine.number)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Write the file, once all machines are gone."""
        result = yield
        from bootc_build.testing.report.page import write_report  # noqa: PLC0415 - once, at the end

        run = ReportedRun(
            begun=self._begun,
            seconds=time.time() - self._begun,
            tests=list(self._tests.values()),
            machines=list(self._machines.values()),
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_report(run, self.path)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        terminalreporter.write_sep("-", f"generated report: {self.path}")

    def _test(self, nodeid: str) -> ReportedTest:
        return self._tests.setdefault(nodeid, ReportedTest(nodeid))


def report_path(config: pytest.Config) -> Path | None:
    """Where the report is wanted; none in a worker of pytest-xdist, which does not report."""
    path = None if hasattr(config, "workerinput") else chosen_path(config, "report")
    return None if path is None else Path(os.path.expandvars(path)).expanduser().absolute()
