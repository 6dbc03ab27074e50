"""Programs that could not begin are started again; those that failed are not."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.process import CommandError, run, run_streaming

_PROGRAM = """
import pathlib, sys
count, said, good = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
started = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (started + 1))
if started < good:
    sys.exit(said)
print("done")
"""
_NOT_BEGUN = "Close_Fd sealing memfd copy: Device or resource busy\nError: exit status 1"
Runner = Callable[[list[str]], str]


def _streamed(argv: list[str]) -> str:
    lines: list[str] = []
    run_streaming(argv, lines.append)
    return lines[-1] + "\n"


@pytest.fixture(params=[lambda argv: run(argv).stdout, _streamed])
def runner(request: pytest.FixtureRequest) -> Runner:
    """Runs a program and gives the last line that it said."""
    found: Runner = request.param
    return found


def _argv(tmp_path: Path, said: str, good: int) -> list[str]:
    return [sys.executable, "-c", _PROGRAM, str(tmp_path / "count"), said, str(good)]


def _starts(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text())


def test_a_program_that_could_not_begin_is_started_again(tmp_path: Path, runner: Runner) -> None:
    assert runner(_argv(tmp_path, _NOT_BEGUN, 2)) == "done\n"
    assert _starts(tmp_path) == 3


def test_but_not_for_ever(tmp_path: Path, runner: Runner) -> None:
    with pytest.raises(CommandError, match="sealing memfd copy"):
        runner(_argv(tmp_path, _NOT_BEGUN, 100))
    assert _starts(tmp_path) == 5


@pytest.mark.parametrize("said", ["no space left", f"one\ntwo\n{_NOT_BEGUN}"])
def test_one_that_failed_is_not(tmp_path: Path, runner: Runner, said: str) -> None:
    with pytest.raises(CommandError):
        runner(_argv(tmp_path, said, 1))
    assert _starts(tmp_path) == 1
