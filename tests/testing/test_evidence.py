"""What a test run leaves behind of its machines, by test runs of its own."""

import json
import os
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pexpect
import pytest

from bootc_build.onhost.process import run
from bootc_build.testing.artifacts import folder_name
from tests.vm.boot_sectors import ECHO, write_guest

pytest_plugins = ["pytester"]

_TESTS = """
from pathlib import Path
import pytest
from bootc_build.vm.spec import MachineSpec

SMALL = MachineSpec(name="small", memory_mib=64, cpus=1, network=False)

@pytest.fixture(scope="module")
def shared(bootc_vm_module):
    machine = bootc_vm_module(Path("guest.raw"), spec=SMALL, boot=False)
    machine.start()
    machine.wait_for_console_text("Hello", seconds=30)
    return machine

def test_good(bootc_vm):
    bootc_vm(Path("guest.raw"), spec=SMALL, boot=False).start()

def test_bad(bootc_vm):
    machine = bootc_vm(Path("guest.raw"), spec=SMALL, boot=False)
    machine.start()
    machine.wait_for_console_text("Hello", seconds=30)
    assert 1 == 2, "it went wrong"

def test_shared_good(shared):
    pass

def test_shared_bad(shared):
    assert False

def test_without_machines():
    pass
"""


def _run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    write_guest(pytester.path / "guest.raw", "Hello from the guest\n", ECHO)
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess(
        "--bootc-accel=tcg", "--bootc-artifacts=artifacts", *options
    )
    result.assert_outcomes(passed=3, failed=2)
    return result


def _events(cast: Path) -> list[tuple[float, str, str]]:
    return [json.loads(line) for line in cast.read_text().splitlines()[1:]]


def _folder(pytester: pytest.Pytester, test: str) -> Path:
    [module] = pytester.path.glob("test_*.py")
    return pytester.path / "artifacts" / folder_name(f"{module.name}::{test}")


def test_a_failed_test_leaves_all_that_its_machine_could_show(pytester: pytest.Pytester) -> None:
    result = _run(pytester)
    folder = _folder(pytester, "test_bad")
    assert sorted(path.name for path in folder.iterdir()) == [
        "machine1.cast",
        "machine1.console.log",
        "machine1.png",
        "machine1.qmp.jsonl",
    ]
    assert (folder / "machine1.png").read_bytes().startswith(b"\x89PNG")
    events = _events(folder / "machine1.cast")
    assert "Hello from the guest" in "".join(text for _, code, text in events if code == "o")
    failures = [text for _, code, text in events if code == "m" and text.startswith("failed: ")]
    assert len(failures) == 1
    assert "test_bad: AssertionError: it went wrong" in failures[0]
    result.stdout.fnmatch_lines([f"recording: {folder}/machine1.cast"])


def test_what_shared_machines_say_stays_when_one_of_the_tests_fails(
    pytester: pytest.Pytester,
) -> None:
    _run(pytester)
    [module] = pytester.path.glob("test_*.py")
    cast = pytester.path / "artifacts" / folder_name(module.name) / "machine1.cast"
    marks = [text for _, code, text in _events(cast) if code == "m"]
    names = [mark.partition("::")[2].partition(":")[0] for mark in marks if "::" in mark]
    assert names == ["test_shared_bad", "test_shared_bad"]


@pytest.mark.parametrize(("options", "kept"), [((), 0), (("--bootc-keep=all",), 1)])
def test_a_test_that_passed_leaves_nothing_unless_asked(
    pytester: pytest.Pytester, options: tuple[str, ...], kept: int
) -> None:
    _run(pytester, *options)
    assert _folder(pytester, "test_good").exists() == bool(kept)


def test_an_earlier_run_leaves_nothing_in_this_one(pytester: pytest.Pytester) -> None:
    _run(pytester)
    stale = _folder(pytester, "test_bad") / "machine9.png"
    stale.touch()
    _run(pytester)
    assert not stale.exists()


@pytest.mark.parametrize("spread", [(), ("-n2",)])
def test_the_failure_names_the_command_that_runs_it_again(
    pytester: pytest.Pytester, spread: tuple[str, ...]
) -> None:
    result = _run(pytester, *spread, "-k", "not nothing")
    [command] = [
        line
        for line in result.outlines
        if "pytest" in line and "::test_bad" in line and "--bootc-accel" in line
    ]
    assert "-n2" not in command
    argv = shlex.split(command)
    environment = dict(one.split("=", 1) for one in argv if one.startswith("BOOTC_BUILD_"))
    program = argv[len(environment) :]
    if program[0] == "python":
        program[0] = sys.executable
    again = run(program, check=False, env={**os.environ, **environment})
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout


@pytest.mark.parametrize("spread", [(), ("-n2",)])
def test_junit_links_each_file_relative_to_itself(
    pytester: pytest.Pytester, spread: tuple[str, ...]
) -> None:
    _run(pytester, "--junit-xml=results/junit.xml", *spread)
    cases = {case.get("name"): case for case in ET.parse("results/junit.xml").iter("testcase")}  # noqa: S314 - our own
    properties = {
        one.get("name"): one.get("value", "") for one in cases["test_bad"].iterfind(".//property")
    }
    assert set(properties) == {
        *("bootc.machine1.console", "bootc.machine1.recording", "bootc.machine1.monitor"),
        *("bootc.machine1.screenshot", "bootc.rerun"),
    }
    said = cases["test_bad"].findtext("system-out", "")
    for name, path in properties.items():
        if name != "bootc.rerun":
            assert not Path(path).is_absolute()
            assert (pytester.path / "results" / path).is_file()
            assert f"[[ATTACHMENT|{path}]]" in said
    assert "::test_bad" in properties["bootc.rerun"]
    for good in ("test_good", "test_without_machines"):
        assert cases[good].find("properties") is None
        assert cases[good].find("system-out") is None


def test_junit_keeps_what_a_test_printed(pytester: pytest.Pytester) -> None:
    _run(pytester, "--junit-xml=junit.xml", "-o", "junit_logging=all", "-o", "junit_family=xunit1")
    whole = Path("junit.xml").read_text()
    assert whole.count("<testcase") == 5
    assert "it went wrong" in whole


def test_folders_of_different_tests_differ_and_are_never_too_long() -> None:
    ids = [
        "a.py::t[x/y]",
        "a.py::t[x_y]",
        "a.py::t[x y]",
        "a.py::" + "t" * 400,
        "a.py::" + "t" * 401,
    ]
    names = [folder_name(one) for one in ids]
    assert len(set(names)) == len(ids)
    assert max(map(len, names)) < 150
    assert folder_name("vms/test_a.py::test_b[1-bios]") == "vms_test_a.py_test_b_1-bios"


def test_the_consoles_of_a_failed_test_come_to_the_terminal_and_the_run_goes_on(
    pytester: pytest.Pytester,
) -> None:
    write_guest(pytester.path / "guest.raw", "Hello from the guest\n", ECHO)
    pytester.makepyfile(_TESTS)
    argv = ["-m", "pytest", "-v", "--bootc-accel=tcg", "--bootc-shell-on-fail"]
    with pexpect.spawn(sys.executable, argv, timeout=60, cwd=str(pytester.path)) as program:
        for test in ("test_bad", "test_shared_bad"):
            program.expect_exact(f"::{test} failed: ")
            program.expect_exact("Ctrl-] leaves it, then the test run goes on.")
            program.send("typed into the guest")
            program.expect_exact("typed into the guest")
            program.send("\x1d")
            program.expect_exact("The test run goes on.")
        program.expect_exact("2 failed, 3 passed")
        program.expect(pexpect.EOF)


def test_handing_over_consoles_needs_a_terminal_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("--bootc-shell-on-fail")
    result.stderr.fnmatch_lines(["*needs a terminal on standard input*"])
    result = pytester.runpytest_subprocess("--bootc-shell-on-fail", "-n2")
    result.stderr.fnmatch_lines(["*leave out -n*"])
