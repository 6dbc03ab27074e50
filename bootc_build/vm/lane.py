"""Commands in the guest over a virtio serial port: faster than the console, and nothing else is printed there.

Guests whose systemd takes units as system credentials (256 and newer) start the other end, `guest_lane.sh`, by
themselves. Others never say hello here, and are spoken to on their console. Credentials and what they mean:
systemd.system-credentials(7).
"""

import itertools
import math
import re
import select
import socket
import time
from pathlib import Path

import pexpect

from bootc_build.vm.console import Console
from bootc_build.vm.errors import MachineError, ShellLostError
from bootc_build.vm.shell import (
    CLOCK_SECONDS,
    CommandOverrunError,
    CommandResult,
    clock_setting,
)

PORT = "bootc-build.lane"
_SCRIPT = "bootc-build.lane"
# Without default dependencies it stays up in a shutdown to its end: a command that restarts the guest still
# answers, and what is done at shutdown can be watched.
_UNIT = f"""[Unit]
Description=Shell on a virtio serial port, for tests
DefaultDependencies=no
After=systemd-user-sessions.service
Before=getty.target serial-getty@ttyS0.service
IgnoreOnIsolate=yes

[Service]
Type=exec
ImportCredential={_SCRIPT}
EnvironmentFile=-/etc/default/locale
EnvironmentFile=-/etc/locale.conf
Environment=HOME=/root USER=root LOGNAME=root SHELL=/bin/sh TERM=dumb
ExecStart=/bin/sh %d/{_SCRIPT}
StandardOutput=journal
TimeoutStopSec=5
"""
_WANT_IT = "[Unit]\nWants=bootc-build-lane.service\n"
_HELLO = re.compile(rb"\n@hello ([0-9a-f-]{36})\n")
_ANSWER = re.compile(rb"@(\w+) (\d+|full) (\d+) (\d+)\n")
_CHUNK_BYTES = 1 << 16
_WAKE_SECONDS = 0.2
_GRACE_SECONDS = 30.0
# What timeout(1) exits with: after SIGTERM, and after SIGKILL.
_ENDED_BY_TIMEOUT = (124, 137)
_TRANSFER_SECONDS = 60.0
_SLOWEST_BYTES = 20_000  # a second


def lane_credentials() -> tuple[tuple[str, str], ...]:
    """What makes a guest's systemd start the other end: system credentials (name, value)."""
    return (
        (_SCRIPT, Path(__file__).with_name("guest_lane.sh").read_text()),
        ("systemd.extra-unit.bootc-build-lane.service", _UNIT),
        ("systemd.unit-dropin.multi-user.target~bootc-build-lane", _WANT_IT),
    )


class Lane:
    """A root shell at the other end of a virtio serial port.

    Args:
        connection: the host's end; closed by whoever made it.
        console: of the same guest; what it shows of trouble ends every wait here.
        time_scale: factor for the waits inside; not for the callers' own limits.
    """

    def __init__(
        self, connection: socket.socket, console: Console, *, time_scale: float = 1.0
    ) -> None:
        self._connection = connection
        self._console = console
        self._scale = time_scale
        self._numbers = itertools.count(1)
        self._unread = b""
        # Whether the guest has it open, as far as QEMU's monitor has told.
        self._is_closed = False

    def note_port(self, *, is_open: bool) -> None:
        """The guest has opened or closed its end (may be called from any thread)."""
        self._is_closed = not is_open

    def has_said_hello(self) -> bool:
        """Whether a guest has newly come to answer here; forgets everything that it said before.

        Raises:
            ConsoleBadnessError, pexpect.EOF: the machine is in trouble, or gone.
        """
        while self._is_readable(0):
            self._receive()
        hellos = list(_HELLO.finditer(self._unread))
        if not hellos:
            return False
        self._unread = self._unread[hellos[-1].end() :]
        return True

    def run(self, command: str, *, seconds: float) -> CommandResult:
        """Run a command (by bash where there is one, else sh; its standard input is /dev/null) to its end.

        Args:
            command: a script; any text.
            seconds: how long it may take; the transfer of its output comes on top.

        Raises:
            CommandOverrunError: it took longer, and was ended.
            ShellLostError: the shell no longer answers.
            ConsoleBadnessError, pexpect.EOF: the machine is in trouble, or gone.
        """
        limit = "-" if math.isinf(seconds) else str(max(1, math.ceil(seconds)))
        begun = time.monotonic()
        head, script = _script(command)
        result = self._ask(f"run {{}} {head} {limit}\n", script, seconds)
        # Its own exit status may be these, too, but then it did not take so long.
        if result.status in _ENDED_BY_TIMEOUT and time.monotonic() - begun >= seconds:
            raise CommandOverrunError(result)
        return result

    def cast(self, command: str) -> None:
        """Start what ends this shell; there is no answer to wait for."""
        head, script = _script(command)
        self._send(f"run last {head} -\n".encode() + script, _TRANSFER_SECONDS * self._scale)

    def upload(self, content: bytes) -> str:
        """Bring bytes into the guest and return the path of the temporary file that holds them there.

        Raises:
            MachineError: there is no room for it.
            ShellLostError, ConsoleBadnessError, pexpect.EOF.
        """
        seconds = _TRANSFER_SECONDS * self._scale + len(content) / _SLOWEST_BYTES
        return self._ask(f"put {{}} {len(content)} -\n", content, seconds).text.strip()

    def take_over(self, *, seconds: float) -> None:
        """Speak to a shell that was there before its guest was stopped, and set the guest's clock by ours.

        Raises:
            ShellLostError: no answer in so many seconds, or the clock stays wrong.
        """
        deadline = time.monotonic() + seconds
        off = 0.0
        while (left := deadline - time.monotonic()) > 0:
            done = self.run(f"{clock_setting()}; date +%s", seconds=left)
            # An answer that was long on its way set the clock too late: once more, it is awake now.
            off = float(done.text.strip() or 0) + 0.5 - time.time()
            if abs(off) <= CLOCK_SECONDS:
                return
        raise ShellLostError(
            f"The restored guest's clock stays {off:+.0f} seconds off (waited {seconds:.0f} seconds).",
            console_tail=self._console.tail(),
        )

    def _ask(self, head: str, content: bytes, seconds: float) -> CommandResult:
        number = f"{next(self._numbers)}"
        grace = _GRACE_SECONDS * self._scale
        # The guest's own limit comes first; this one is for guests that hang.
        deadline = time.monotonic() + seconds + grace
        self._send(head.format(number).encode() + content, seconds + grace)
        while True:
            # An answer whose question was given up is read all the same: its bytes are in the way.
            name, status, out, err = self._read_answer(deadline)
            if name == number:
                break
        if status == "full":
            raise MachineError(
                f"The guest has no room in /run for {len(content)} bytes from the host.",
                "Give it more memory, or empty /run.",
                self._console.tail(),
            )
        return CommandResult(int(status), out, err)

    def _read_answer(self, deadline: float) -> tuple[str, str, bytes, bytes]:
        while (found := _ANSWER.search(self._unread)) is None:
            self._receive_until(deadline)
        out, err = int(found[3]), int(found[4])
        whole = found.end() + out + err
        pieces, have = [self._unread], len(self._unread)
        while have < whole:
            self._unread = b""
            self._receive_until(max(deadline, time.monotonic() + _TRANSFER_SECONDS * self._scale))
            pieces.append(self._unread)
            have += len(self._unread)
        data = b"".join(pieces)
        self._unread = data[whole:]
        begin = found.end()
        name, status = found[1].decode(), found[2].decode()
        return name, status, data[begin : begin + out], data[begin + out : whole]

    def _receive_until(self, deadline: float) -> None:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ShellLostError(
                    "The guest's shell on the virtio serial port no longer answers.",
                    console_tail=self._console.tail(),
                )
            was_closed = self._is_closed
            if self._is_readable(min(left, _WAKE_SECONDS)):
                self._receive()
                return
            self._console.check()
            if was_closed:
                raise ShellLostError(
                    "The guest has closed its shell on the virtio serial port.",
                    console_tail=self._console.tail(),
                )

    def _is_readable(self, seconds: float) -> bool:
        return bool(select.select([self._connection], [], [], seconds)[0])

    def _receive(self) -> None:
        try:
            chunk = self._connection.recv(_CHUNK_BYTES)
        except OSError:
            chunk = b""
        if not chunk:
            self._console.check(now=True)
            raise pexpect.EOF("the machine ended")
        self._unread += chunk

    def _send(self, raw: bytes, seconds: float) -> None:
        """Send all of it, as fast as the guest takes it."""
        deadline = time.monotonic() + seconds
        left = memoryview(raw)
        while left:
            if not select.select([], [self._connection], [], _WAKE_SECONDS)[1]:
                self._console.check()
                if time.monotonic() > deadline:
                    raise ShellLostError(
                        "The guest takes nothing more on the virtio serial port.",
                        console_tail=self._console.tail(),
                    )
                continue
            try:
                left = left[self._connection.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self._console.check(now=True)
                raise pexpect.EOF(f"the machine ended: {error.strerror}") from error


def _script(command: str) -> tuple[int, bytes]:
    """A command as lines; their number, and all of them."""
    text = command + "\n"
    return text.count("\n"), text.encode()
