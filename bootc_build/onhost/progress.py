"""How long-running work says what it does, without knowing who listens; for both programs."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LayerTransfer:
    """A layer that is on its way: digest, place in the image (from 1), bytes of the blob that arrived, of all."""

    digest: str
    number: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True)
class Transfer:
    """How far the layers of an image are; nothing in it ever becomes less during one pull.

    Args:
        image: its name, as people write it.
        manifest_digest: which one exactly.
        layers_cached: layers that were here already.
        layers_done: layers that arrived.
        layers_total: layers that have to be fetched.
        bytes_cached: bytes of the blobs that were here already.
        bytes_done: bytes of blobs that arrived.
        bytes_total: bytes of the blobs that have to be fetched.
        running: what is on its way now, in the image's order.
    """

    image: str
    manifest_digest: str
    layers_cached: int
    layers_done: int
    layers_total: int
    bytes_cached: int
    bytes_done: int
    bytes_total: int
    running: tuple[LayerTransfer, ...]


@dataclass(frozen=True)
class Part:
    """A part of a task: a name for machines, a description for people, and whether it is done."""

    name: str
    description: str
    completed: bool


@dataclass(frozen=True)
class Steps:
    """How far a task of a few steps is: what upstream calls ``importing`` or ``staging`` of an image."""

    task: str
    description: str
    manifest_digest: str
    done: int
    total: int
    parts: tuple[Part, ...]


def describe_transfer(state: Transfer) -> str:
    """One line about a transfer, for people."""
    layers = f"{state.layers_done} of {state.layers_total} layers"
    return f"{layers}, {state.bytes_done / 1e6:,.0f} of {state.bytes_total / 1e6:,.0f} MB"


class Progress(Protocol):
    """A listener to one command's progress."""

    def step(self, text: str) -> None:
        """A new step begins ("Fetching layer 2 of 5"); the listener times the one before."""

    def detail(self, text: str) -> None:
        """Something that is worth showing with ``-v`` only."""

    def bytes_done(self, done: int, total: int | None) -> None:
        """The current step has handled ``done`` bytes, of ``total`` where that is known."""

    def transfer(self, state: Transfer) -> None:
        """Layers of an image are on their way; comes often, and last with everything done."""

    def task(self, state: Steps) -> None:
        """An image is imported or staged; for programs that watch, people hear of it by `step`."""


class Silent:
    """Nobody listens."""

    def step(self, text: str) -> None:
        """Ignore."""

    def detail(self, text: str) -> None:
        """Ignore."""

    def bytes_done(self, done: int, total: int | None) -> None:
        """Ignore."""

    def transfer(self, state: Transfer) -> None:
        """Ignore."""

    def task(self, state: Steps) -> None:
        """Ignore."""
