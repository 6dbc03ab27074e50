"""Run external programs: argument lists, never a shell; bounded output; no orphan is left behind.

Both programs use this runner: the on-host agent directly, the build side through ``tools/``.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.unsynced import write_unsynced

# For `running`: the output is read by the caller.
PIPE: Final = subprocess.PIPE
_STDERR_TAIL_LINES = 20
_TERMINATE_GRACE_SECONDS = 10
# What buildah, podman and skopeo say, with a line or two around it, when they could not make the copy of themselves
# that they run: once in some thousand times, while the kernel moves pages about. Nothing has begun then.
_NOT_BEGUN = "sealing memfd copy"
_LINES_OF_NOT_BEGUN = 3
_TRIES = 5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class MissingProgramError(UserError):
    """A program that is needed is not installed."""

    def __init__(self, program: str, remedy: str = "") -> None:
        super().__init__(
            f"The program '{program}' is not installed.",
            remedy or f"Install the package that has it, for example: apt-get install {program}",
        )
        self.program = program


class CommandError(UserError):
    """A program failed: carries the command, its exit status and the tail of what it said."""

    def __init__(self, argv: Sequence[str], status: int, tail: str, remedy: str = "") -> None:
        how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
        said = f":\n{tail.rstrip()}" if tail.strip() else "."
        super().__init__(f"{' '.join(argv)} {how}{said}", remedy)
        self.argv = tuple(argv)
        self.status = status
        self.tail = tail


class CommandTimeoutError(UserError):
    """A program did not finish in its time and was ended."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"{' '.join(argv)} did not finish within {seconds:g} seconds and was ended."
        )
        self.argv = tuple(argv)


@dataclass(frozen=True)
class Completed:
    """What a program that ended left: its status and decoded output (UTF-8, undecodable bytes escaped)."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends (for ``preexec_fn``; Linux only)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _die_with_parent_unsynced() -> None:
    die_with_parent()
    write_unsynced()


def find_program(name: str, remedy: str = "") -> str:
    """Absolute path of a program, also looking in the sbin folders that a user's PATH may lack.

    Raises:
        MissingProgramError: it is nowhere.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingProgramError(name, remedy)
    return found


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # Messages are parsed and shown: one language. The UTF-8 locale keeps non-ASCII file names whole.
    return {**os.environ, "LC_ALL": "C.UTF-8", **(extra or {})}


@contextmanager
def running(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    synced: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running program that is ended (SIGTERM, then SIGKILL) when the block is left early.

    Args:
        argv: program and arguments.
        stdin: as `subprocess.Popen` has it, and so have the next ones.
        stdout: where its output goes.
        stderr: where its messages go.
        env: additions to the environment.
        cwd: working directory.
        pass_fds: descriptors that it keeps.
        synced: whether it waits for the disk where it means to; see `onhost.unsynced`.

    Raises:
        MissingProgramError: the program is not installed.
    """
    program = find_program(argv[0])
    with subprocess.Popen(
        [program, *argv[1:]],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=_environment(env),
        cwd=cwd,
        pass_fds=pass_fds,
        # prctl alone is safe between fork and exec.
        preexec_fn=die_with_parent if synced else _die_with_parent_unsynced,  # noqa: PLW1509
    ) as process:
        try:
            yield process
        finally:
            end_process(process)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs: SIGTERM, ten seconds, SIGKILL. Waits for its end."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_TERMINATE_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    input_text: str | None = None,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    remedy: str = "",
    synced: bool = True,
) -> Completed:
    """Run a program to its end and return its output.

    Args:
        argv: program and arguments.
        check: raise when the exit status is not 0.
        input_text: what it reads on standard input (otherwise /dev/null).
        timeout: seconds, after which it is ended.
        env: additions to the environment.
        cwd: working directory.
        remedy: what the user can do when it fails.
        synced: whether it waits for the disk where it means to; see `onhost.unsynced`.

    Raises:
        MissingProgramError, CommandError, CommandTimeoutError.
    """
    for _ in range(_TRIES):
        done = _run_once(argv, input_text, timeout, env=env, cwd=cwd, synced=synced)
        if done.status == 0 or not _has_not_begun((done.stdout + done.stderr).splitlines()):
            break
    if check and done.status != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-_STDERR_TAIL_LINES:])
        raise CommandError(argv, done.status, tail, remedy)
    return done


def _run_once(
    argv: Sequence[str],
    input_text: str | None,
    timeout: float | None,
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    synced: bool,
) -> Completed:
    stdin = subprocess.DEVNULL if input_text is None else subprocess.PIPE
    with running(
        argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        synced=synced,
    ) as process:
        try:
            out, err = process.communicate(
                None if input_text is None else input_text.encode(), timeout=timeout
            )
        except subprocess.TimeoutExpired as exc:
            raise CommandTimeoutError(argv, timeout or 0) from exc
    return Completed(
        tuple(argv),
        process.returncode,
        out.decode(errors="backslashreplace"),
        err.decode(errors="backslashreplace"),
    )


def _has_not_begun(lines: Sequence[str]) -> bool:
    """Whether a program that failed said nothing but that it could not begin."""
    return len(lines) <= _LINES_OF_NOT_BEGUN and any(_NOT_BEGUN in line for line in lines)


def run_streaming(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    remedy: str = "",
) -> None:
    """Run a program and hand over each line of its merged output as it appears.

    Raises:
        MissingProgramError, CommandError (with the last lines).
    """
    for _ in range(_TRIES):
        tail: deque[str] = deque(maxlen=_STDERR_TAIL_LINES)
        with running(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd
        ) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            for raw in process.stdout:
                line = raw.decode(errors="backslashreplace").rstrip("\n")
                tail.append(line)
                on_line(line)
            status = process.wait()
        if status == 0 or not _has_not_begun(tail):
            break
    if status != 0:
        raise CommandError(argv, status, "\n".join(tail), remedy)
