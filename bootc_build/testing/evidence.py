"""What a test run tells of its machines: evidence of failures, links, the command to run a test again.

Where tests run in several processes, each worker writes the files of its own tests; their paths travel in
the test reports to the one process that writes the JUnit XML file and the HTML report.
"""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.testing.artifacts import MachineArtifacts, save_last_state
from bootc_build.testing.junit import add_attachments, artifact_properties
from bootc_build.testing.options import chosen
from bootc_build.testing.rerun import RERUN, rerun_command, rerun_prefix

# Every pytest run where this package is installed loads this, so what is heavy waits for its use.
if TYPE_CHECKING:
    from bootc_build.vm.machine import Machine

MACHINES: pytest.StashKey[list["Machine"]] = pytest.StashKey()
FOLDERS: pytest.StashKey[list[tuple[pytest.Item | pytest.Collector, Path]]] = pytest.StashKey()
_FAILED: pytest.StashKey[bool] = pytest.StashKey()
_SEEN: pytest.StashKey[dict[str, MachineArtifacts]] = pytest.StashKey()
_TAIL_LINES = 30
_TAIL_BYTES = 16384
_WORKER_KEY = "bootc_rerun"
# Options of other plugins that draw a number when none is given.
_SEEDS = {"--randomly-seed": "randomly_seed", "--hypothesis-seed": "hypothesisseed"}


class Evidence:
    """A pytest plugin; one for each process of a test run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = hasattr(config, "workerinput")
        self._prefix = (
            str(vars(config)["workerinput"][_WORKER_KEY]) if self._worker else _rerun_prefix(config)
        )
        xml = config.getoption("xmlpath", None)
        self._xml = Path(os.path.expandvars(xml)).expanduser().absolute() if xml else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's
        """Tell a worker of pytest-xdist how this run was called."""
        node.workerinput[_WORKER_KEY] = self._prefix

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Mark in the recordings of shared machines where a test begins."""
        for machine in machines_of(item):
            if machine.record is not None:
                machine.record.mark(f"test: {item.nodeid}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Save what a failed test's machines can still show; forget what nobody wants."""
        report = yield
        machines = machines_of(item)
        seen = item.stash.setdefault(_SEEN, {})
        for machine in machines:
            seen[str(machine.log_path)] = MachineArtifacts.of(machine)
        if report.failed:
            for node in item.listchain():
                node.stash[_FAILED] = True
            for machine in machines:
                report.sections.append(_failure(machine, item.nodeid, report))
        rerun = self._rerun(item.nodeid) if _uses_machines(item) else ""
        if report.failed and rerun:
            report.sections.append(("run it again", rerun))
        if report.when == "teardown":
            self._forget(item)
            kept = artifact_properties(seen.values(), self._xml.parent if self._xml else None)
            report.user_properties += [*kept, *([("bootc.rerun", rerun)] if kept else [])]
        if rerun:
            # Text only: it travels between processes.
            entries = [one.entry() for one in seen.values()]
            report.__dict__["bootc"] = {"machines": entries, "rerun": rerun}
        return report

    def pytest_exception_interact(
        self,
        node: pytest.Item | pytest.Collector,
        call: pytest.CallInfo[Any],
        report: Any,  # noqa: ANN401 - of two kinds
    ) -> None:
        """Hand the consoles of a failed test's machines to the person at the terminal."""
        if not self._config.getoption("--bootc-shell-on-fail") or not isinstance(node, pytest.Item):
            return
        from bootc_build.vm.terminal import ESCAPE_KEY, attach  # noqa: PLC0415

        said = f"{call.excinfo.exconly()}" if call.excinfo else str(report.outcome)
        for machine in machines_of(node):
            with suppress(UserError), _terminal(self._config) as write:
                write(f"{node.nodeid} failed: {said.splitlines()[0]}")
                system = machine.record.title if machine.record else machine.spec.name
                write(
                    f"The console of '{system}' follows; {ESCAPE_KEY} leaves it, then the test run goes on."
                )
                with machine.lend_console() as console:
                    attach(console)
                write("The test run goes on.")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Link what was left behind from the JUnit XML file, once it is written."""
        result = yield
        if self._xml is not None and not self._worker and self._xml.is_file():
            add_attachments(self._xml)
        return result

    def _rerun(self, nodeid: str) -> str:
        if (command := self._config.stash.get(RERUN, None)) is not None:
            return command(nodeid)
        return rerun_command(
            self._prefix,
            nodeid,
            root=str(self._config.rootpath),
            folder=str(self._config.invocation_params.dir),
        )

    def _forget(self, item: pytest.Item) -> None:
        """Remove the folders of nodes that are over and had no failure."""
        keep_all = chosen(self._config, "keep") == "all"
        folders = item.config.stash.setdefault(FOLDERS, [])
        for node, folder in folders:
            if not keep_all and not node.stash.get(_FAILED, False):
                shutil.rmtree(folder, ignore_errors=True)
        folders.clear()


def check_options(config: pytest.Config) -> None:
    """Refuse options that cannot be kept.

    Raises:
        pytest.UsageError: a console is to be handed over and there is no terminal to hand it to.
    """
    if not config.getoption("--bootc-shell-on-fail"):
        return
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None):
        raise pytest.UsageError(
            "--bootc-shell-on-fail needs the terminal for itself: leave out -n (or give -n 0)."
        )
    # Output is not captured now, input is; the first test captures both again.
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    if not os.isatty(0):
        raise pytest.UsageError("--bootc-shell-on-fail needs a terminal on standard input.")


@contextmanager
def _terminal(config: pytest.Config) -> Iterator[Callable[[str], None]]:
    """The terminal as it is outside of pytest; gives what writes a line to it."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")

    def write(text: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(f"bootc: {text}", yellow=True)

    capture.suspend_global_capture(in_=True)
    try:
        yield write
    finally:
        capture.resume_global_capture()


def machines_of(item: pytest.Item) -> list["Machine"]:
    """The machines that a test has now, its module's included if it uses them."""
    shares = "bootc_vm_module" in _fixtures(item)
    return [
        machine
        for node in item.listchain()
        if shares or node is item
        for machine in node.stash.get(MACHINES, [])
    ]


def _uses_machines(item: pytest.Item) -> bool:
    return any(name.startswith("bootc_vm") for name in _fixtures(item))


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _failure(machine: "Machine", nodeid: str, report: pytest.TestReport) -> tuple[str, str]:
    """Mark the failure in the recording and save the machine's state; a section for the test report."""
    if machine.record is not None:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message.splitlines()[0] if crash and crash.message else report.outcome
        machine.record.mark(f"failed: {nodeid}: {reason}")
    artifacts = save_last_state(machine)
    said = [
        f"{what if what != 'console' else 'console log'}: {path}"
        for what, path in artifacts.files()
    ]
    said += ["", *_last_lines(artifacts.path("console"))]
    return f"machine '{machine.spec.name}'", "\n".join(said)


def _last_lines(log: Path) -> list[str]:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read().decode(errors="backslashreplace").splitlines()[-_TAIL_LINES:]
    return []


def _rerun_prefix(config: pytest.Config) -> str:
    as_module = Path(sys.argv[0]).name == "__main__.py"
    seeds = {
        option: int(value)
        for option, name in _SEEDS.items()
        if str(value := config.getoption(name, None)).isdecimal()
    }
    return rerun_prefix(
        [str(one) for one in config.invocation_params.args],
        config.args,
        program="python -m pytest" if as_module else "pytest",
        environment=dict(os.environ),
        seeds=seeds,
    )
