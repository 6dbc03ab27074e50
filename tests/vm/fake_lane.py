"""The guest's half of the lane without a guest: its script on a pseudo-terminal in raw mode, as a port is."""

import os
import pty
import signal
import socket
import subprocess
import threading
import tty
from contextlib import suppress
from pathlib import Path
from typing import Self

import bootc_build.vm.lane

_SCRIPT = Path(bootc_build.vm.lane.__file__).with_name("guest_lane.sh")


class FakeLane:
    """A shell whose port is the other end of `lane`, and a console that says what it is told to.

    Args:
        folder: for the script's files.
    """

    def __init__(self, folder: Path) -> None:
        self.lane, self._far = socket.socketpair()
        self.console, self.far_console = socket.socketpair()
        self._folder = folder
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)

    def __enter__(self) -> Self:
        self.start()
        self._threads = [
            threading.Thread(target=self._to_host),
            threading.Thread(target=self._to_guest),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def start(self) -> None:
        """Run the script, as a boot does."""
        argv = ["sh", str(_SCRIPT), os.ttyname(self._slave), str(self._folder)]
        self._process = subprocess.Popen(argv, start_new_session=True)

    def stop(self) -> None:
        """End the script, as a shutdown does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def die(self) -> None:
        """What the end of QEMU does."""
        for connection in (self._far, self.far_console):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        self.die()
        os.close(self._slave)
        for thread in self._threads:
            thread.join()
        os.close(self._master)
        for connection in (self._far, self.far_console, self.lane, self.console):
            connection.close()

    def _to_host(self) -> None:
        with suppress(OSError):
            while chunk := os.read(self._master, 4096):
                self._far.sendall(chunk)

    def _to_guest(self) -> None:
        with suppress(OSError):
            while chunk := self._far.recv(1000):
                os.write(self._master, chunk)
