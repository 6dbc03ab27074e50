"""One request of a registry's client on its way to the registry, and the answer, or what befalls it, back."""

import io
import json
import select
import socket
import socketserver
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import TYPE_CHECKING, Any

from bootc_build.vm.registry_faults import Expectation
from bootc_build.vm.registry_log import Entry
from bootc_build.vm.registry_mishaps import CHUNK, Answer, ConnectionCutError, Mishap, Read

if TYPE_CHECKING:
    from bootc_build.vm.registry_proxy import RegistryProxy

_TICK = 0.05
# RFC 9110, 7.6.1: they speak of one connection, not of the message.
_HOP_BY_HOP = {
    *("connection", "expect", "keep-alive", "proxy-connection"),
    *("te", "trailer", "transfer-encoding", "upgrade"),  # codespell:ignore te
}
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Conversation(BaseHTTPRequestHandler):
    """One connection: request after request until the client or a fault ends it.

    Args:
        connection: to the client, behind TLS where there is any.
        client_address: of the client.
        server: that accepted it.
        handle: the same connection below TLS.
        proxy: whose door it is.
    """

    protocol_version = "HTTP/1.1"

    def __init__(
        self,
        connection: socket.socket,
        client_address: Any,  # noqa: ANN401 - the base class's
        server: socketserver.BaseServer,
        handle: socket.socket,
        proxy: "RegistryProxy",
    ) -> None:
        self.proxy = proxy
        self._handle = handle
        super().__init__(connection, client_address, server)

    def log_message(self, *_args: object) -> None:
        """Nothing is printed: there is a log."""

    def _converse(self) -> None:
        proxy = self.proxy
        expired = proxy.faults.certificate_expired
        with proxy.log.entry(self.command, self.path, self.headers.get("Range", "")) as entry:
            expectation = proxy.faults.take(entry.request)
            visit = _Visit(self, entry, expectation, self._handle)
            try:
                visit.pass_on()
            except ConnectionCutError as cut:
                self.close_connection = True
                if cut.reset:
                    linger = struct.pack("ii", 1, 0)  # on, for no time: the kernel sends a reset
                    self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            except (OSError, HTTPException):
                self.close_connection = True
            except LookupError as error:  # the test asks for what cannot be; `check()` shows it
                entry.suffered(f"impossible: {error}")
                self.close_connection = True
        if expired != proxy.faults.certificate_expired:
            self.close_connection = True  # the next connection meets the other certificate

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _converse  # noqa: N815 - the base class's


class _Visit:
    """One request on its way to the registry, and the answer on its way back."""

    def __init__(
        self,
        conversation: Conversation,
        entry: Entry,
        expectation: Expectation | None,
        handle: socket.socket,
    ) -> None:
        self._conversation = conversation
        self._proxy = conversation.proxy
        self._entry = entry
        self._expectation = expectation
        self._mishap = Mishap() if expectation is None else expectation.mishap
        self._handle = handle

    def pass_on(self) -> None:
        """Ask the registry and give its answer, as far as the mishap lets it."""
        if (answer := self._mishap.answer()) is not None:
            self.took_effect()
            self._give(answer)
            return
        self._mishap.before(self)
        with self._proxy.backend() as backend:
            self._ask(backend)
            with backend.getresponse() as found:
                self._relay(found)

    # What a mishap may do: see `Exchange`.

    def took_effect(self) -> None:
        """Count it once for this request."""
        if self._expectation is None or self._entry.request.fault:
            return
        self._entry.suffered(str(self._mishap))
        self._expectation.count()

    def pause(self, until: Event | None, seconds: float | None) -> None:
        """Wait; a client that says anything now, or is gone, ends the connection."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while until is None or not until.is_set():
            left = _TICK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            wait = left if until is None else min(left, _TICK)
            if select.select([self._handle], [], [], wait)[0]:
                raise ConnectionCutError

    def retag(self, tag: str, to: str) -> None:
        """In the repository that is asked for."""
        self._proxy.retag(self._entry.request.repository or "", tag, to)

    # The request.

    def _ask(self, backend: HTTPConnection) -> None:
        asked = self._conversation
        headers = asked.headers
        backend.putrequest(asked.command, asked.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                backend.putheader(name, value)
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        if chunked:
            backend.putheader("Transfer-Encoding", "chunked")
        size = int(headers.get("Content-Length", "0"))
        body = _unchunked(asked.rfile) if chunked else _sized(asked.rfile, size)
        backend.endheaders(body if chunked or size else None, encode_chunked=chunked)

    # The answer.

    def _give(self, answer: Answer) -> None:
        asked = self._conversation
        if asked.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in asked.headers:
            asked.close_connection = True  # with the request's body unread
        length = ("Content-Length", str(len(answer.body)))
        self._head(answer.status, "", [*answer.headers, length])
        body = b"" if asked.command == "HEAD" else answer.body
        self._entry.sent(len(body))
        self._entry.completed()
        asked.end_headers()
        asked.wfile.write(body)

    def _head(self, status: int, reason: str, headers: Iterable[tuple[str, str]]) -> None:
        asked = self._conversation
        asked.send_response_only(status, reason or None)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                asked.send_header(name, value)
        if asked.close_connection:
            asked.send_header("Connection", "close")
        self._entry.answered(status)

    def _relay(self, found: HTTPResponse) -> None:
        asked = self._conversation
        empty = asked.command == "HEAD" or found.status in _WITHOUT_BODY
        length = found.length
        read: Read = found.read
        if "manifest" in self._entry.request.kinds and found.status == HTTPStatus.OK and not empty:
            manifest = found.read()
            self._learn(manifest)
            read = io.BytesIO(manifest).read
        self._head(found.status, found.reason, found.headers.items())
        if length is None and not empty:
            asked.send_header("Transfer-Encoding", "chunked")
        if empty or length == 0:
            self._entry.completed()
        asked.end_headers()
        if not empty:
            self._send(self._body(found.status, read, length), length)

    def _body(self, status: int, read: Read, length: int | None) -> Iterator[bytes]:
        if length is None or status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return Mishap().body(read, 0, self)
        return self._mishap.body(read, length, self)

    def _send(self, chunks: Iterator[bytes], length: int | None) -> None:
        out, left = self._conversation.wfile, length
        try:
            for chunk in chunks:
                self._entry.sent(len(chunk))
                if left is None:
                    out.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    continue
                left -= len(chunk)
                self._entry.completed(complete=left == 0)
                out.write(chunk)
            if left is None:
                self._entry.completed()
                out.write(b"0\r\n\r\n")
        except OSError:
            self._entry.completed(complete=False)
            raise

    def _learn(self, manifest: bytes) -> None:
        """Which blob is a configuration, before the client can ask for it."""
        with suppress(ValueError, KeyError, TypeError):
            self._proxy.log.learn_config(json.loads(manifest)["config"]["digest"])


def _sized(stream: io.BufferedIOBase, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = stream.read(min(CHUNK, size))
        if not chunk:
            raise ConnectionCutError
        size -= len(chunk)
        yield chunk


def _unchunked(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """A body of RFC 9112's chunked coding; trailers are read and dropped."""
    while size := int(stream.readline().split(b";")[0], 16):
        yield from _sized(stream, size)
        stream.readline()
    while stream.readline().strip():
        pass
