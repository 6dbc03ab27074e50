"""A guest without a machine: a shell on a pseudo-terminal behind a socket, with a kernel that talks in between."""

import os
import pty
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self


class FakeGuest:
    """A shell whose terminal is the other end of `console`.

    Args:
        argv: what runs on the terminal.
        storm: share of the output's chunks into which a kernel message is put, 0 to 1.
        damage: share of the chunks in which a byte is lost.
    """

    def __init__(self, *argv: str, storm: float = 0, damage: float = 0) -> None:
        self.console, self._far = socket.socketpair()
        self.storm = storm
        self.damage = damage
        self._random = random.Random(1)  # noqa: S311 - a test's dice
        self._argv = argv or ("bash", "--norc", "-i")
        self._master, self._slave = pty.openpty()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "PS1": "root@fake:/# ", "TERM": "vt220"},
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads yet
        )
        os.close(self._slave)
        self._threads = [
            threading.Thread(target=self._to_host),
            threading.Thread(target=self._to_guest),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for place in (
            "/run",
            "/dev/shm",
            "/tmp",
        ):  # Where the framed shell (guest_shell.sh) has its files.
            shutil.rmtree(f"{place}/bootc-build-shell.{self._process.pid}", ignore_errors=True)
        with suppress(OSError):
            self._far.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        os.close(self._master)
        self._far.close()
        self.console.close()

    def kernel_says(self, text: str) -> None:
        """Print a kernel message on the console."""
        self._far.sendall(f"[   12.345678] {text}\r\n".encode())

    def _to_host(self) -> None:
        with suppress(OSError):
            while chunk := os.read(self._master, 300):
                self._far.sendall(self._disturbed(chunk))

    def _to_guest(self) -> None:
        with suppress(OSError):
            while chunk := self._far.recv(1000):
                os.write(self._master, chunk)

    def _disturbed(self, chunk: bytes) -> bytes:
        if self._random.random() < self.storm:
            at = self._random.randrange(len(chunk) + 1)
            stamp = b"[ %4d.%06d] " % (self._random.randrange(9999), self._random.randrange(10**6))
            chunk = chunk[:at] + stamp + b"audit: all is well, nothing to see\r\n" + chunk[at:]
        if self._random.random() < self.damage:
            at = self._random.randrange(len(chunk))
            chunk = chunk[:at] + chunk[at + 1 :]
        return chunk


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - in the child only
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def fake_guest(*argv: str, storm: float = 0, damage: float = 0) -> Iterator[FakeGuest]:
    """A fake guest for the length of a block."""
    with FakeGuest(*argv, storm=storm, damage=damage) as guest:
        yield guest
