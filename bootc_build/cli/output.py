"""Progress and messages on standard error: lines with elapsed time, a moving byte count on a terminal."""

import os
import sys
import time
from typing import TextIO

from bootc_build.onhost.progress import Steps, Transfer, describe_transfer

_REDRAW_SECONDS = 0.2


class StderrProgress:
    """Prints steps with their elapsed time; details only when verbose, nothing when quiet.

    Args:
        verbosity: -1 quiet, 0 steps, 1 steps and the programs' own lines.
        stream: where to print; standard error by default.
    """

    def __init__(self, verbosity: int = 0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._verbosity = verbosity
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._moving = False
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def step(self, text: str) -> None:
        """Begin a step: one line with the seconds since the command began."""
        if self._verbosity >= 0:
            self._clear()
            print(f"[{time.monotonic() - self._begun:7.1f}s] {text}", file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        """A program's own line."""
        if self._verbosity >= 1:
            self._clear()
            print(f"           {text}", file=self._stream, flush=True)

    def bytes_done(self, done: int, total: int | None) -> None:
        """Redraw the byte count, on a terminal only and at most five times a second."""
        of = f" of {total / 1e6:,.0f}" if total else ""
        self._redraw(f"{done / 1e6:,.0f}{of} MB")

    def task(self, state: Steps) -> None:
        """Not for people, who hear of the steps one by one."""

    def transfer(self, state: Transfer) -> None:
        """Redraw the count of layers and bytes, as `bytes_done` does."""
        self._redraw(describe_transfer(state))

    def _redraw(self, text: str) -> None:
        now = time.monotonic()
        if self._verbosity < 0 or not self._live or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        print(f"\r\x1b[K           {text}", end="", file=self._stream, flush=True)
        self._moving = True

    def _clear(self) -> None:
        if self._moving:
            print("\r\x1b[K", end="", file=self._stream)
            self._moving = False
