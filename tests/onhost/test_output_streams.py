"""Readers that go away, and disks that are full, under what both programs print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = ("-m", "bootc_build.onhost")


def run_unread(*command: str) -> tuple[int, str]:
    """Status and standard error of a program whose standard output is a pipe that nobody reads."""
    # What is printed is kept until the end, or until it is much.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *command],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.fixture
def bad_root(tmp_path: Path) -> str:
    """A root of an image that a lint refuses."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    return str(tmp_path)


def test_failed_check_that_nobody_reads_has_failed(bad_root: str) -> None:
    status, said = run_unread(*AGENT, "container", "lint", "--rootfs", bad_root)
    assert status == 1
    assert said.startswith("error: Checks failed: ")
    assert len(said.splitlines()) == 1


def test_good_answer_that_nobody_reads_is_no_failure() -> None:
    assert run_unread(*AGENT, "status", "--json") == (0, "")
    assert run_unread(*AGENT, "container", "lint", "--list") == (0, "")


def test_what_is_done_after_printing_is_done() -> None:
    code = (
        "import os, sys; from bootc_build.onhost.output_streams import forgive_closed_readers\n"
        "forgive_closed_readers(); print('x' * 100_000, flush=True); os.write(1, b'lost')\n"
        "sys.exit(7)"
    )
    assert run_unread("-c", code) == (7, "")


def test_progress_that_nobody_reads_stops_nothing() -> None:
    code = (
        "import sys; from bootc_build.onhost.output_streams import forgive_closed_readers\n"
        "forgive_closed_readers()\n"
        "from bootc_build.onhost.cli.output import say; say('one'); say('two'); print('done')"
    )
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, check=True)
    os.close(writer)
    assert done.stdout == "done\n"


def test_pipe_to_another_program_that_broke_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bootc_build.onhost.cli import main, status  # noqa: PLC0415

    def broken(_options: status.Options) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(status, "show", broken)
    assert main.main(["status"]) == 1
    assert "ended before it had read its input" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [(*AGENT, "status", "--json"), (*AGENT, "completion", "bash")],
)
def test_full_disk_under_the_output_is_said(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_system_error_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bootc_build.onhost.cli import main, status  # noqa: PLC0415

    monkeypatch.setattr(status, "show", lambda _options: os.rmdir("/proc/absent"))  # noqa: PTH106
    assert main.main(["status"]) == 1
    assert capsys.readouterr().err == "error: /proc/absent: No such file or directory\n"


def test_pipe_of_the_build_program_to_another_one_that_broke_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bootc_build.cli import doctor, main  # noqa: PLC0415

    def broken(_args: object, _progress: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(doctor, "run", broken)
    assert main.main(["doctor"]) == 1
    assert "ended before it had read its input" in capsys.readouterr().err


def test_build_program_ends_as_by_sigpipe_unless_it_was_done() -> None:
    code = (
        "import sys; from bootc_build.cli import doctor, main\n"
        "doctor.run = lambda *_: print('x' * 100_000, flush=True)\n"
        "sys.exit(main.main(['doctor']))"
    )
    assert run_unread("-c", code) == (141, "")
    done = code.replace("print('x' * 100_000, flush=True)", "print('x') or 3")
    assert run_unread("-c", done) == (3, "")
