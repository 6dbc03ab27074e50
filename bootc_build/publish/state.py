"""What of a publication is done, in a file beside the disk, so that a killed one goes on where it was.

Layout: one JSON object a line, appended when a thing is done. The first line is what is published where; the
file's name has a digest of it, so that another disk, name or region is another publication. A line that a kill
cut short is the last one, and does not count. Whoever publishes holds a lock (flock) on the file; it is removed
when everything is done.
"""

import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UserError

_SUFFIX = ".publish"
_VERSION = 1
_DIGITS = 8


class State:
    """What is done.

    Attributes:
        path: the file.
        token: names this publication to AWS, so that a repeated call is not done twice.
        account: whose snapshot and images they are; None before it is known.
        snapshot: its id; None before it exists.
        blocks: indexes of those that are uploaded.
        completed: whether the snapshot is.
        images: region -> id of the image there.
        finished: regions whose image is tagged and shared.
        generation: how many snapshots were begun and are gone.
        leftovers: region and id of snapshots whose image was given up; they are to go as well.
    """

    def __init__(self, path: Path, descriptor: int, token: str) -> None:
        self.path = path
        self.token = token
        self.account: str | None = None
        self.snapshot: str | None = None
        self.blocks: set[int] = set()
        self.completed = False
        self.images: dict[str, str] = {}
        self.finished: set[str] = set()
        self.generation = 0
        self.leftovers: list[tuple[str, str]] = []
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @property
    def is_new(self) -> bool:
        """Whether nothing was done before."""
        return self.snapshot is None

    def note(self, **done: Any) -> None:  # noqa: ANN401 - whatever JSON has
        """Note something that is done; by any thread.

        Raises:
            UserError: it cannot be written down.
        """
        with self._lock:
            self._take(done)
            try:
                os.write(self._descriptor, (json.dumps(done) + "\n").encode())
            except OSError as error:
                raise UserError(
                    f"What was done cannot be noted in '{self.path}': {error.strerror}.",
                    "Make room there and run it again; what was not noted is done again.",
                ) from error

    def forget_snapshot(self) -> None:
        """The snapshot is gone: begin anew.

        Raises:
            UserError: it cannot be written down.
        """
        self.note(snapshot=None)

    def remove(self) -> None:
        """Everything is done."""
        self.path.unlink(missing_ok=True)

    def _take(self, done: Mapping[str, Any]) -> None:
        if "account" in done:
            self.account = done["account"]
        if "leftover" in done:
            self.leftovers.append((done["region"], done["leftover"]))
        if "snapshot" in done:
            self.snapshot, self.completed = done["snapshot"], False
            self.blocks.clear()
            self.generation += self.snapshot is None
        if "block" in done:
            self.blocks.add(int(done["block"]))
        if "image" in done:
            self.images[done["region"]] = done["image"]
        if "finished" in done:
            self.finished.add(done["finished"])
        self.completed = self.completed or "completed" in done

    def replay(self, lines: Iterator[str]) -> None:
        """Take what an earlier run noted."""
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError):
                return


def state_file(disk: Path, facts: Mapping[str, Any]) -> Path:
    """Where the state of the publication of this disk lies."""
    text = json.dumps([_VERSION, facts], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return disk.with_name(f"{disk.name}.{digest}{_SUFFIX}")


def others(disk: Path, own: Path) -> list[Path]:
    """State files of other, unfinished publications of disks of this name."""
    return [path for path in unfinished(disk) if path != own]


def unfinished(disk: Path) -> list[Path]:
    """State files of all unfinished publications of disks of this name."""
    # Not a pattern of glob: brackets in a name would be one.
    name = re.compile(rf"{re.escape(disk.name)}\.[0-9a-f]{{{_DIGITS}}}{re.escape(_SUFFIX)}")
    try:
        return sorted(path for path in disk.parent.iterdir() if name.fullmatch(path.name))
    except OSError:
        return []


def publication_of(path: Path) -> dict[str, Any]:
    """What a state file says of the publication itself; empty if it says nothing that can be read."""
    try:
        with path.open(errors="replace") as file:
            return dict(json.loads(file.readline())["publication"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@contextmanager
def open_state(path: Path, facts: Mapping[str, Any]) -> Iterator[State]:
    """The state of a publication, for the length of the block; an earlier run's, or a new one.

    Args:
        path: from `state_file`.
        facts: what is published where.

    Raises:
        UserError: somebody else is publishing just that, or the file cannot be written.
    """
    descriptor = _open_locked(path)
    try:
        # A line that was cut short must not swallow the next one.
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        os.ftruncate(descriptor, len(whole))
        lines = whole.decode(errors="replace").splitlines()
        token = hashlib.sha256(os.urandom(16)).hexdigest()[:32]
        first = {"version": _VERSION, "token": token, "publication": dict(facts)}
        if lines:
            token = _token(path, lines[0])
        else:
            os.write(descriptor, (json.dumps(first) + "\n").encode())
        state = State(path, descriptor, token)
        state.replay(iter(lines[1:]))
        yield state
    finally:
        os.close(descriptor)


def earlier_state(path: Path) -> State:
    """What an earlier run noted, to look at; nothing if there was none.

    Raises:
        UserError: the file cannot be read.
    """
    state = State(path, -1, "")
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return state
    except OSError as error:
        raise UserError(
            f"'{path}', which remembers an unfinished upload, cannot be read: {error.strerror}.",
            "Run it as the user who began the upload.",
        ) from error
    if lines:
        _token(path, lines[0])
    state.replay(iter(lines[1:]))
    return state


def _token(path: Path, first_line: str) -> str:
    try:
        return str(json.loads(first_line)["token"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"'{path}', which remembers an unfinished upload, is damaged.",
            "Remove it to begin anew. A pending snapshot is given up by EBS after a day; a completed one you delete.",
        ) from error


def require_account(state: State, account: str) -> None:
    """Require that what was begun belongs to an account.

    Raises:
        UserError: it is another's.
    """
    if state.account not in (None, account):
        raise UserError(
            f"'{state.path}' is of account {state.account}; these credentials are of {account}.",
            "Choose the other account's credentials with --profile; with them, --discard gives it up.",
        )


def _open_locked(path: Path) -> int:
    """Open the file, make it if there is none, and lock it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UserError(
                f"'{path}' cannot be written, and without it an upload could not go on after an interruption: "
                f"{error.strerror}.",
                "Move the disk to a folder where you may write.",
            ) from error
        try:
            _lock(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever held it until now has finished and removed it: this one counts no more.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"Another process is publishing this disk; it holds '{path}'.", "Wait for it to end."
        ) from error
