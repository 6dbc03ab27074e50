"""The door of a test's registry: TLS, a log of every request, and the faults that a test asks for.

It passes requests on to the real registry behind it and streams both ways, so that no blob is ever held whole.
One thread for each connection. Threads end when their connection or the proxy does.
"""

import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from threading import Event, Thread
from typing import Any, Self

from bootc_build.vm.registry_exchange import Conversation
from bootc_build.vm.registry_faults import Faults
from bootc_build.vm.registry_log import RequestLog

_LOOPBACK = "127.0.0.1"
_BACKEND_SECONDS = 120.0
_TLS_SECONDS = 60.0
_TICK = 0.05
# How a TLS client begins: a handshake record.
_TLS_RECORD = b"\x16"
_PLAIN_HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
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
                Conversation(connection, client_address, self, handle, self.proxy)

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
