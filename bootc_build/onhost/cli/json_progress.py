"""``--progress-fd``: progress as lines of JSON, in upstream's protocol of version 0.1.0.

The first line says the version. ``ProgressBytes`` tells of the layers that are fetched, ``ProgressSteps`` of what
comes after. At most five lines a second, apart from those that say that something is complete.
"""

import json
import os
import stat
import sys
import time

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.progress import Progress, Steps, Transfer

_VERSION = "0.1.0"
_SECONDS_BETWEEN = 0.2
_SHORT_DIGEST = 21
_FIRST_FREE = 3


def parse_progress_fd(text: str) -> int:
    """The number of an open pipe's file descriptor (for argparse).

    Raises:
        UsageError: not a number, one of the standard streams, closed, or no pipe.
    """
    if not text.isdecimal():
        raise UsageError(f"'{text}' is not the number of a file descriptor.")
    number = int(text)
    if number < _FIRST_FREE:
        raise UsageError(
            f"Cannot use fd {number} for progress JSON", "Open another: bootc ... 3>&1"
        )
    try:
        mode = os.fstat(number).st_mode
    except OSError as error:
        raise UsageError(f"File descriptor {number} cannot be used: {error.strerror}.") from error
    if not stat.S_ISFIFO(mode):
        raise UsageError(f"File descriptor {number} is not a pipe.")
    return number


class JsonProgress:
    """Writes what another listener hears to a pipe as well.

    Args:
        fd: the pipe. When nobody reads it any more, that is said once and the work goes on.
        other: hears everything, too.
    """

    def __init__(self, fd: int, other: Progress) -> None:
        self._fd: int | None = fd
        self._other = other
        self._started = False
        self._written = -_SECONDS_BETWEEN
        self._complete: dict[str, int] = {}
        self._running: dict[str, int] = {}

    def step(self, text: str) -> None:
        """Not for machines."""
        self._other.step(text)

    def detail(self, text: str) -> None:
        """Not for machines."""
        self._other.detail(text)

    def bytes_done(self, done: int, total: int | None) -> None:
        """Not for machines."""
        self._other.bytes_done(done, total)

    def transfer(self, state: Transfer) -> None:
        """``ProgressBytes``."""
        self._other.transfer(state)
        now = {layer.digest: layer.bytes_total for layer in state.running}
        completed = {digest: size for digest, size in self._running.items() if digest not in now}
        self._complete.update(completed)
        self._running = now
        if not completed and time.monotonic() - self._written < _SECONDS_BETWEEN:
            return
        subtasks = [_layer(digest, size, size) for digest, size in self._complete.items()]
        subtasks += [
            _layer(layer.digest, layer.bytes_done, layer.bytes_total) for layer in state.running
        ]
        self._send(
            {
                "type": "ProgressBytes",
                "task": "pulling",
                "description": f"Pulling Image: {state.manifest_digest}",
                "id": state.manifest_digest,
                "bytesCached": state.bytes_cached,
                "bytes": state.bytes_done,
                "bytesTotal": state.bytes_total,
                "stepsCached": state.layers_cached,
                "steps": state.layers_done,
                "stepsTotal": state.layers_total,
                "subtasks": subtasks,
            }
        )

    def task(self, state: Steps) -> None:
        """``ProgressSteps``."""
        self._other.task(state)
        self._send(
            {
                "type": "ProgressSteps",
                "task": state.task,
                "description": state.description,
                "id": state.manifest_digest,
                "stepsCached": 0,
                "steps": state.done,
                "stepsTotal": state.total,
                "subtasks": [
                    {
                        "subtask": part.name,
                        "description": part.description,
                        "id": part.name,
                        "completed": part.completed,
                    }
                    for part in state.parts
                ],
            }
        )

    def _send(self, event: dict[str, object]) -> None:
        events = [event] if self._started else [{"type": "Start", "version": _VERSION}, event]
        self._started = True
        lines = "".join(
            json.dumps(each, separators=(",", ":"), sort_keys=True) + "\n" for each in events
        )
        data = lines.encode()
        try:
            while data and self._fd is not None:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            print(f"Failed to write to jsonl: {error.strerror}", file=sys.stderr)
            self._fd = None
        self._written = time.monotonic()


def _layer(digest: str, done: int, total: int) -> dict[str, object]:
    short = digest.partition(":")[2][:_SHORT_DIGEST]
    return {
        "subtask": "layer",
        "description": f"layer: {short}",
        "id": short,
        "bytesCached": 0,
        "bytes": done,
        "bytesTotal": total,
    }
