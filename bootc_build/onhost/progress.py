"""How long-running work says what it does, without knowing who listens; for both programs."""

from typing import Protocol


class Progress(Protocol):
    """A listener to one command's progress."""

    def step(self, text: str) -> None:
        """A new step begins ("Fetching layer 2 of 5"); the listener times the one before."""

    def detail(self, text: str) -> None:
        """Something that is worth showing with ``-v`` only."""

    def bytes_done(self, done: int, total: int | None) -> None:
        """The current step has handled ``done`` bytes, of ``total`` where that is known."""


class Silent:
    """Nobody listens."""

    def step(self, text: str) -> None:
        """Ignore."""

    def detail(self, text: str) -> None:
        """Ignore."""

    def bytes_done(self, done: int, total: int | None) -> None:
        """Ignore."""
