"""A private network of machines: a switch in this process, without root, ports or multicast.

Each card is a connected socket that its QEMU has as a `stream` network backend. On it a frame is its length in
four bytes, most significant first, and its bytes (QEMU's `net/stream.c`). Every frame goes to all other cards,
as in a hub: whom it is for is the receivers' to know. Nothing leaves the process, and all ends with it.
"""

import selectors
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

_LENGTH_BYTES = 4
_CHUNK_BYTES = 1 << 16
_BUFFERED_BYTES = 1 << 20


@dataclass
class _Port:
    """What has come in of a frame that is not whole yet, and what is left to go out of one."""

    incoming: bytes = b""
    outgoing: bytes = b""


class PrivateNetwork:
    """A network that its machines alone are on; a context manager that outlives them.

    Args:
        name: what it is called in messages.
    """

    def __init__(self, name: str = "private") -> None:
        self.name = name
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._ports: dict[socket.socket, _Port] = {}
        self._thread = threading.Thread(target=self._switch, name=f"network {name}", daemon=True)

    def __repr__(self) -> str:
        return f"PrivateNetwork({self.name!r})"

    def __enter__(self) -> Self:
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._wake.close()
        self._thread.join()
        self._selector.close()
        self._woken.close()
        for port in self._ports:
            port.close()
        self._ports.clear()

    def plug_in(self) -> socket.socket:
        """The end of a new cable for a machine's card; closing it, or the machine's end, unplugs it."""
        here, there = socket.socketpair()
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERED_BYTES)
        with self._lock:
            self._ports[here] = _Port()
            self._selector.register(here, selectors.EVENT_READ)
        self._wake.send(b"!")
        return there

    def _switch(self) -> None:
        while True:
            for key, events in self._selector.select():
                port = key.fileobj
                assert isinstance(port, socket.socket)  # noqa: S101 - nothing else is registered
                if events & selectors.EVENT_WRITE:
                    self._send(port, b"")
                if not events & selectors.EVENT_READ:
                    continue
                try:
                    chunk = port.recv(_CHUNK_BYTES)
                except OSError:
                    chunk = b""
                if port is self._woken:
                    if not chunk:
                        return
                elif chunk:
                    self._take(port, chunk)
                else:
                    self._unplug(port)

    def _take(self, port: socket.socket, chunk: bytes) -> None:
        data = self._ports[port].incoming + chunk
        while len(data) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
            if len(data) < end:
                break
            with self._lock:
                others = [other for other in self._ports if other is not port]
            for other in others:
                self._send(other, data[:end])
            data = data[end:]
        self._ports[port].incoming = data

    def _send(self, port: socket.socket, frame: bytes) -> None:
        """Send what is left of the last frame, and this one if there is room: a stopped guest takes none."""
        state = self._ports[port]
        if state.outgoing and frame:
            return
        left = state.outgoing + frame
        with suppress(OSError):
            left = left[port.send(left, socket.MSG_DONTWAIT) :]
        # Of a frame that was begun the rest has to follow; one that found no room at all is lost.
        state.outgoing = b"" if left == frame else left
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if state.outgoing else 0)
        if self._selector.get_key(port).events != events:
            self._selector.modify(port, events)

    def _unplug(self, port: socket.socket) -> None:
        with self._lock:
            self._selector.unregister(port)
            del self._ports[port]
        port.close()
