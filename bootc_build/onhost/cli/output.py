"""Progress on standard error: plain lines, and a moving byte count on a terminal."""

import os
import sys
import time
from typing import TextIO

from bootc_build.onhost.progress import Steps, Transfer, describe_transfer

_REDRAW_SECONDS = 0.2


def say(text: str) -> None:
    """One line for the person who waits."""
    print(text, file=sys.stderr, flush=True)


class TextProgress:
    """Shows steps as lines; details when verbose; nothing when quiet.

    Args:
        quiet: show nothing at all.
        verbose: show details too.
        stream: where to; standard error by default.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._verbose = verbose
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0.0
        self._moving = False

    def step(self, text: str) -> None:
        """Begin a step: one line."""
        if not self._quiet:
            self._clear()
            print(text, file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        """One line, when verbose."""
        if self._verbose and not self._quiet:
            self._clear()
            print(f"  {text}", file=self._stream, flush=True)

    def bytes_done(self, done: int, total: int | None) -> None:
        """Redraw the byte count, on a terminal only and at most five times a second."""
        of = f" of {total / 1e6:,.0f}" if total else ""
        self._redraw(f"{done / 1e6:,.0f}{of} MB")

    def task(self, state: Steps) -> None:
        """Not for people, who hear of the steps one by one."""

    def transfer(self, state: Transfer) -> None:
        """Redraw the count of layers and bytes, as `bytes_done` does; when all is here, one line stays."""
        if state.layers_done == state.layers_total:
            if state.layers_total:
                self.step(f"Fetched {describe_transfer(state)}")
        else:
            self._redraw(describe_transfer(state))

    def _redraw(self, text: str) -> None:
        now = time.monotonic()
        if self._quiet or not self._live or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        print(f"\r\x1b[K  {text}", end="", file=self._stream, flush=True)
        self._moving = True

    def _clear(self) -> None:
        if self._moving:
            print("\r\x1b[K", end="", file=self._stream)
            self._moving = False
