"""What a registry was asked, and what it answered: for assertions and for reports."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

Kind = Literal["ping", "manifest", "tag", "blob", "layer", "config", "upload", "other"]
"""What a request is about.

`ping` asks whether there is a registry (/v2/); `manifest` is a manifest by tag or digest, `tag` one by tag
alone; `blob` is any blob, and each is either a `layer` or a `config`; `upload` belongs to a push.
"""

# The distribution specification's routes; a name may have slashes.
_ROUTE = re.compile(r"/v2/(?P<name>.+?)/(?P<what>manifests|blobs)/(?P<which>[^/?]+)")


@dataclass(frozen=True)
class RegistryRequest:
    """A request, and what became of it.

    Attributes:
        at: when it came, in seconds since the registry began.
        method: such as "GET"; "TLS" for a connection that broke off before any request.
        path: with the query, such as "/v2/os/manifests/stable".
        kinds: what it is about; see `Kind`.
        status: of the answer; None while there is none.
        sent: bytes of the answer's body that were sent.
        seconds: how long it took, or has taken until now.
        complete: the whole answer was sent.
        fault: what was done to it; empty for nothing.
        byte_range: the part that was asked for, as the Range header has it.
    """

    at: float
    method: str
    path: str
    kinds: frozenset[Kind] = frozenset()
    status: int | None = None
    sent: int = 0
    seconds: float = 0.0
    complete: bool = False
    fault: str = ""
    byte_range: str = ""

    @property
    def digest(self) -> str | None:
        """Of the blob, or of the manifest that is asked for by digest."""
        found = _ROUTE.match(self.path)
        return found["which"] if found and found["which"].startswith("sha256:") else None

    @property
    def repository(self) -> str | None:
        """The name of what is asked for, without its tag."""
        found = _ROUTE.match(self.path)
        return found["name"] if found else None

    def __str__(self) -> str:
        part = f" ({self.byte_range})" if self.byte_range else ""
        status = "no answer" if self.status is None else str(self.status)
        end = "" if self.complete or self.status is None else ", not to the end"
        fault = f" [{self.fault}]" if self.fault else ""
        return (
            f"{self.at:9.3f} {self.method} {self.path}{part}: {status}, "
            f"{self.sent} bytes in {self.seconds:.3f} s{end}{fault}"
        )


class RequestLog:
    """The requests in the order in which they came; may be used from several threads."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._lock = Lock()
        self._entries: list[Entry] = []
        self._configs: set[str] = set()

    def learn_config(self, digest: str) -> None:
        """A manifest names this blob as its configuration; every other blob counts as a layer."""
        with self._lock:
            self._configs.add(digest)

    @contextmanager
    def entry(self, method: str, path: str, byte_range: str = "") -> Iterator["Entry"]:
        """A request that is under way."""
        begun = time.monotonic()
        request = RegistryRequest(
            at=begun - self._begun,
            method=method,
            path=path,
            kinds=self._kinds(path) if method != "TLS" else frozenset(),
            byte_range=byte_range,
        )
        entry = Entry(request, begun)
        with self._lock:
            self._entries.append(entry)
        try:
            yield entry
        finally:
            entry.end()

    def requests(
        self, kind: Kind | None = None, *, method: str | None = "GET"
    ) -> tuple[RegistryRequest, ...]:
        """What was asked so far.

        Args:
            kind: of this kind only.
            method: with this method only; None for any.
        """
        with self._lock:
            entries = tuple(self._entries)
        seen = (entry.now() for entry in entries)
        return tuple(
            request
            for request in seen
            if (kind is None or kind in request.kinds)
            and (method is None or method == request.method)
        )

    def forget(self) -> None:
        """Begin anew: what was asked so far is no longer counted."""
        with self._lock:
            self._entries.clear()

    def text(self) -> str:
        """One line for each request."""
        return "\n".join(str(request) for request in self.requests(method=None))

    def _kinds(self, path: str) -> frozenset[Kind]:
        found = _ROUTE.match(path)
        if found is None:
            return frozenset({"ping"} if path.rstrip("/") == "/v2" else {"other"})
        which = found["which"]
        if found["what"] == "manifests":
            return frozenset({"manifest"} if ":" in which else {"manifest", "tag"})
        if which == "uploads":
            return frozenset({"upload"})
        with self._lock:
            return frozenset({"blob", "config" if which in self._configs else "layer"})


class Entry:
    """A request that is under way; changed by one thread, read by any."""

    def __init__(self, request: RegistryRequest, begun: float) -> None:
        self.request = request
        self._begun = begun
        self._ended = False

    def answered(self, status: int) -> None:
        """The answer begins."""
        self.request = replace(self.request, status=status)

    def sent(self, size: int) -> None:
        """So many more bytes of the body go out."""
        self.request = replace(self.request, sent=self.request.sent + size)

    def completed(self, *, complete: bool = True) -> None:
        """The whole answer goes out; noted before it does, so that who has it finds it here."""
        self.request = replace(self.request, complete=complete)

    def suffered(self, fault: str) -> None:
        """What was done to it on purpose."""
        self.request = replace(self.request, fault=fault)

    def now(self) -> RegistryRequest:
        """The request as it stands."""
        if self._ended:
            return self.request
        return replace(self.request, seconds=time.monotonic() - self._begun)

    def end(self) -> None:
        """Nothing more happens to it."""
        self.request = self.now()
        self._ended = True
