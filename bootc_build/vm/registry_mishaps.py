"""What can happen to one answer of a registry; each kind of mishap is a small class.

The bodies of answers pass through as streams of chunks; nothing here holds a whole blob.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event
from typing import Protocol

Read = Callable[[int], bytes]
"""Gives at most so many bytes; empty at the end."""
CHUNK = 256 * 1024
"""Bytes that are passed on at once."""

_CODES = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.FORBIDDEN: "DENIED",
    HTTPStatus.TOO_MANY_REQUESTS: "TOOMANYREQUESTS",
}
# A slow answer comes in pieces of this part of a second.
_TICK = 0.1


class ConnectionCutError(Exception):
    """The connection ends here.

    Args:
        reset: as if the other side had crashed (TCP's RST), not in good order (FIN).
    """

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


@dataclass(frozen=True)
class Answer:
    """An answer that is given instead of the registry's own."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Exchange(Protocol):
    """The request that a mishap befalls, as far as the mishap can act on it."""

    def took_effect(self) -> None:
        """The mishap has really happened: there was something to damage or to hold up."""

    def pause(self, until: Event | None, seconds: float | None) -> None:
        """Do nothing until something is set or so many seconds have passed.

        Raises:
            ConnectionCutError: one of both sides is gone.
        """

    def retag(self, tag: str, to: str) -> None:
        """Let a tag of the repository that is asked for mean another image of it."""


class Mishap:
    """Nothing happens: the request is only expected."""

    def answer(self) -> Answer | None:
        """What is said instead of the registry's answer, if anything."""
        return None

    def before(self, exchange: Exchange) -> None:
        """What happens before the registry is asked."""
        exchange.took_effect()

    def body(self, read: Read, length: int, exchange: Exchange) -> Iterator[bytes]:
        """What becomes of the body.

        Args:
            read: gives at most so many bytes of the registry's body, empty at its end.
            length: of it, in bytes.
            exchange: is told when something has happened.
        """
        del length, exchange
        return _rest(read)

    def release(self) -> None:
        """End what holds the answer up."""

    def __str__(self) -> str:
        return "passed on"


@dataclass(frozen=True)
class Refusal(Mishap):
    """Another answer than the registry's."""

    status: int
    retry_after: int | None = None
    message: str = ""

    def answer(self) -> Answer:
        """The error document of the distribution specification."""
        phrase = HTTPStatus(self.status).phrase
        code = _CODES.get(HTTPStatus(self.status), "UNAVAILABLE")
        error = {"code": code, "message": self.message or phrase.lower(), "detail": None}
        headers = [("Content-Type", "application/json")]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", 'Basic realm="registry"'))
        return Answer(self.status, tuple(headers), json.dumps({"errors": [error]}).encode())

    def __str__(self) -> str:
        later = "" if self.retry_after is None else f", Retry-After: {self.retry_after}"
        return f"answered {self.status}{later}"


@dataclass(frozen=True)
class Cut(Mishap):
    """The connection ends when so many bytes of the body were sent; None: before any answer."""

    after: int | None
    reset: bool

    def before(self, exchange: Exchange) -> None:
        """Cut at once, where nothing is to be sent first."""
        if self.after is None:
            exchange.took_effect()
            raise ConnectionCutError(reset=self.reset)

    def body(self, read: Read, length: int, exchange: Exchange) -> Iterator[bytes]:
        """The beginning of the body; one that is not longer is left whole."""
        if self.after is None or length <= self.after:
            yield from _rest(read)
            return
        yield from _beginning(read, self.after)
        exchange.took_effect()
        raise ConnectionCutError(reset=self.reset)

    def __str__(self) -> str:
        where = "before an answer" if self.after is None else f"after {self.after} bytes"
        return f"{'reset' if self.reset else 'cut'} {where}"


@dataclass(frozen=True)
class Corruption(Mishap):
    """Wrong bytes in a body of the right length; ``at`` None: in its middle."""

    count: int
    at: int | None

    def before(self, exchange: Exchange) -> None:
        """Nothing is wrong yet."""

    def body(self, read: Read, length: int, exchange: Exchange) -> Iterator[bytes]:
        """The body with some of its bytes inverted; one that ends before them is left whole."""
        begin = (length - self.count) // 2 if self.at is None else self.at
        end = begin + self.count
        done = 0
        for chunk in _rest(read):
            first, last = max(begin - done, 0), min(end - done, len(chunk))
            done += len(chunk)
            if first >= last:
                yield chunk
                continue
            inverted = bytes(byte ^ 0xFF for byte in chunk[first:last])
            exchange.took_effect()
            yield chunk[:first] + inverted + chunk[last:]

    def __str__(self) -> str:
        where = "in the middle" if self.at is None else f"from byte {self.at} on"
        return f"{self.count} wrong bytes {where}"


@dataclass(frozen=True)
class Stall(Mishap):
    """The connection stays, but nothing comes any more; until it is released, if ever."""

    after: int
    released: Event = field(default_factory=Event)

    def before(self, exchange: Exchange) -> None:
        """Nothing stands still yet."""

    def body(self, read: Read, length: int, exchange: Exchange) -> Iterator[bytes]:
        """The beginning, a pause, the rest; a body that is not longer is left whole."""
        if length > self.after:
            yield from _beginning(read, self.after)
            exchange.took_effect()
            exchange.pause(self.released, None)
        yield from _rest(read)

    def release(self) -> None:
        """Let the rest come."""
        self.released.set()

    def __str__(self) -> str:
        return f"stalled after {self.after} bytes"


@dataclass(frozen=True)
class Slowness(Mishap):
    """So many bytes in a second."""

    rate: int

    def before(self, exchange: Exchange) -> None:
        """Nothing is slow yet."""

    def body(self, read: Read, length: int, exchange: Exchange) -> Iterator[bytes]:
        """The body in small pieces with pauses between them."""
        del length
        size = max(1, int(self.rate * _TICK))
        for chunk in _rest(read):
            for start in range(0, len(chunk), size):
                piece = chunk[start : start + size]
                exchange.took_effect()
                exchange.pause(None, len(piece) / self.rate)
                yield piece

    def __str__(self) -> str:
        return f"slowed to {self.rate} bytes per second"


@dataclass(frozen=True)
class TagSwap(Mishap):
    """Before the answer, a tag of the same repository becomes another image."""

    tag: str
    to: str

    def before(self, exchange: Exchange) -> None:
        """Somebody pushes at this moment."""
        exchange.retag(self.tag, self.to)
        exchange.took_effect()

    def __str__(self) -> str:
        return f"before it, the tag '{self.tag}' became '{self.to}'"


def _beginning(read: Read, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


def _rest(read: Read) -> Iterator[bytes]:
    while chunk := read(CHUNK):
        yield chunk
