"""The door of a test's registry: TLS, a log of every request, and the faults that a test asks for.

It passes requests on to the real registry behind it and streams both ways, so that no blob is ever held whole.
One thread for each connection. Threads end when their connection or the proxy does.
"""

import io
import json
import select
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from threading import Event, Thread
from typing import Any, Self

from bootc_build.vm.registry_faults import Expectation, Faults
from bootc_build.vm.registry_log import Entry, RequestLog
from bootc_build.vm.registry_mishaps import CHUNK, Answer, ConnectionCutError, Mishap, Read

_LOOPBACK = "127.0.0.1"
_BACKEND_SECONDS = 120.0
_TLS_SECONDS = 60.0
_TICK = 0.05
# RFC 9110, 7.6.1: they speak of one connection, not of the message.
_HOP_BY_HOP = {
    *("connection", "expect", "keep-alive", "proxy-connection"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
}
# How a TLS client begins: a handshake record.
_TLS_RECORD = b"\x16"
_PLAIN_HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True)
class Contexts:
    """The TLS identities of a proxy: the good one, and one that has expired."""

    good: ssl.SSLContext
    expired: ssl.SSLContext


class RegistryProxy:
    """Listens on a free port of the loopback address; a context manager.

    Args:
        backend_port: where the registry listens, on the same address.
        faults: what befalls requests.
        log: takes every request.
        contexts: for TLS; None for plain HTTP.
        authorization: the header's value for requests of the proxy's own.

    Attributes:
        port: where it listens, once entered.
    """

    def __init__(
        self,
        backend_port: int,
        faults: Faults,
        log: RequestLog,
        *,
        contexts: Contexts | None = None,
        authorization: str | None = None,
    ) -> None:
        self._backend_port = backend_port
        self.faults = faults
        self.log = log
        self.contexts = contexts
        self.authorization = authorization
        self.closing = Event()
        self.port = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            server = stack.enter_context(_Server(self))
            self.port = server.server_address[1]
            thread = Thread(target=server.serve_forever, args=(_TICK,), name="registry-proxy")
            thread.start()
            # In the reverse order; the server's own end waits for the threads of its connections.
            stack.callback(server.cut_connections)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            stack.callback(self.closing.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @contextmanager
    def backend(self) -> Iterator[HTTPConnection]:
        """A connection to the registry itself."""
        connection = HTTPConnection(_LOOPBACK, self._backend_port, timeout=_BACKEND_SECONDS)
        try:
            yield connection
        finally:
            connection.close()

    def retag(self, repository: str, tag: str, to: str) -> None:
        """Let a tag mean what another tag or digest of the repository means.

        Raises:
            LookupError: there is no such manifest.
        """
        own = {"Authorization": self.authorization} if self.authorization else {}
        with self.backend() as connection:
            path = f"/v2/{repository}/manifests"
            connection.request(
                "GET", f"{path}/{to}", headers={"Accept": ", ".join(_MANIFEST_TYPES), **own}
            )
            found = connection.getresponse()
            manifest = found.read()
            if found.status != HTTPStatus.OK:
                raise LookupError(f"'{repository}' has no '{to}' (status {found.status})")
            headers = {"Content-Type": found.headers["Content-Type"], **own}
            connection.request("PUT", f"{path}/{tag}", body=manifest, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != HTTPStatus.CREATED:
                raise LookupError(f"'{repository}:{tag}' cannot be set (status {answer.status})")


class _Server(socketserver.ThreadingTCPServer):
    """Accepts connections and closes each in the way that the test wants."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, proxy: RegistryProxy) -> None:
        self.proxy = proxy
        self._handles: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((_LOOPBACK, 0), BaseHTTPRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's
        """Serve one connection, behind TLS where the proxy has it."""
        # TLS takes the socket itself over; this second handle on it is what others may touch.
        with closing(request.dup()) as handle:
            with self._lock:
                self._handles.add(handle)
            try:
                if not self.proxy.closing.is_set():
                    self._serve(request, handle, client_address)
            finally:
                with self._lock:
                    self._handles.discard(handle)

    def _serve(self, request: socket.socket, handle: socket.socket, client_address: Any) -> None:  # noqa: ANN401
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        contexts = self.proxy.contexts
        connection = request if contexts is None else self._secure(request, contexts)
        if contexts is None and request.recv(1, socket.MSG_PEEK) == _TLS_RECORD:
            request.sendall(_PLAIN_HTTP)  # as servers do, so that the client can say what is wrong
            connection = None
        if connection is not None:
            with closing(connection):
                _Conversation(connection, client_address, self, handle)

    def _secure(self, request: socket.socket, contexts: Contexts) -> socket.socket | None:
        """The same connection with TLS; None when the client would not have it."""
        faults = self.proxy.faults
        expired = faults.certificate_expired
        context = contexts.expired if expired else contexts.good
        request.settimeout(_TLS_SECONDS)
        try:
            secured = context.wrap_socket(request, server_side=True)
        except OSError as error:  # ssl.SSLError is one, too
            with self.proxy.log.entry("TLS", str(error)) as entry:
                if expired:
                    entry.suffered("expired certificate")
            return None
        finally:
            if expired:
                faults.expired_certificate_shown()
        secured.settimeout(None)
        return secured

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's
        """Close what is still open; `_serve` has ended the conversation."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's
        """A client that goes away is no news; a bug is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def cut_connections(self) -> None:
        """Let no thread wait for its client."""
        with self._lock:
            for each in self._handles:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Conversation(BaseHTTPRequestHandler):
    """One connection: request after request until the client or a fault ends it."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def __init__(
        self,
        connection: socket.socket,
        client_address: Any,  # noqa: ANN401 - the base class's
        server: _Server,
        handle: socket.socket,
    ) -> None:
        self._handle = handle
        super().__init__(connection, client_address, server)

    def log_message(self, *_args: object) -> None:
        """Nothing is printed: there is a log."""

    def _converse(self) -> None:
        proxy = self.server.proxy
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
        conversation: _Conversation,
        entry: Entry,
        expectation: Expectation | None,
        handle: socket.socket,
    ) -> None:
        self._conversation = conversation
        self._proxy = conversation.server.proxy
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
            self._relay(backend.getresponse())

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
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(answer.body)
            self._entry.sent(len(answer.body))
        self._entry.completed()

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
        asked.end_headers()
        if not empty:
            self._send(self._body(found.status, read, length), chunked=length is None)
        self._entry.completed()

    def _body(self, status: int, read: Read, length: int | None) -> Iterator[bytes]:
        if length is None or status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return Mishap().body(read, 0, self)
        return self._mishap.body(read, length, self)

    def _send(self, chunks: Iterator[bytes], *, chunked: bool) -> None:
        out = self._conversation.wfile
        for chunk in chunks:
            out.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            self._entry.sent(len(chunk))
        if chunked:
            out.write(b"0\r\n\r\n")

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
