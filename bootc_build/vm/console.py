"""The guest's serial console: a pexpect object that is read all the time, logged, and watched for trouble.

A thread empties the socket, so that the guest never waits for a reader and that trouble is seen while nobody
is reading. What it reads goes three ways: as lines to the log (with time stamps) and the history, to the
watch, and to a queue from which pexpect's `expect` family reads.
"""

import io
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pexpect
from pexpect.spawnbase import SpawnBase

from bootc_build.vm.badness import find_badness
from bootc_build.vm.errors import ConsoleBadnessError
from bootc_build.vm.record import MachineRecord

_CHUNK_BYTES = 65536
_LONGEST_LINE = 8192
_SHOWN_LINES = 15
_AFTER_TROUBLE_SECONDS = 1.0
_WAKE_SECONDS = 0.2
_CONTROL = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()].|[=>78cM])"
    rb"|[\x00-\x08\x0b-\x1f\x7f]"
)
# Lines of the framed shell (shell.py) carry data, not words; the log is for people.
_FRAME = re.compile(rb"\d*@[0-9a-f]{12}:[\x20-\x7e]*\r*")

# SpawnBase is generic only in its type stubs.
if TYPE_CHECKING:
    _ByteSpawn = SpawnBase[bytes]
else:
    _ByteSpawn = SpawnBase


def is_frame(line: bytes) -> bool:
    """Whether a console line is one of the framed shell's: data, no words."""
    return _FRAME.fullmatch(line) is not None


def plain_text(raw: bytes) -> str:
    """Console bytes without colours, cursor movements and other control characters."""
    return _CONTROL.sub(b"", raw).decode(errors="backslashreplace")


@dataclass(frozen=True)
class ConsoleLine:
    """A line that the guest printed, and when: seconds since the console was opened."""

    seconds: float
    text: str


class Console(_ByteSpawn):
    """The console of a running guest; a context manager.

    All of pexpect's `expect…`, `before` and `match` work on it, in bytes. Whatever reads raises
    ConsoleBadnessError one second after the console showed trouble, and pexpect.EOF when QEMU has ended.

    Args:
        connection: the host's end of the serial line; closed by whoever made it.
        log: file to which lines are appended, each with the seconds since the console was opened.
        name: of the machine, for messages.
        expected: what looks like trouble but is wanted; it may change while the machine runs.
        record: gets every byte and every note, too.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        log: Path,
        name: str = "machine",
        expected: Sequence[re.Pattern[str]] = (),
        record: MachineRecord | None = None,
    ) -> None:
        super().__init__(timeout=30, maxread=_CHUNK_BYTES)
        self.delaybeforesend = None
        self.delayafterread = None
        self.expected = expected
        self.history: list[ConsoleLine] = []
        self.last_heard = time.monotonic()
        self._machine = name
        self._record = record
        self._connection = connection
        self._begun = self.last_heard
        self._log_stream = log.open("a", encoding="utf-8", errors="backslashreplace")
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._unread = b""
        self._line = b""
        self._changed = threading.Condition()
        self._handing_out = threading.Lock()
        self._ended = False
        self._trouble: tuple[float, str, str] | None = None
        self._is_provisional = False
        self._listeners: list[Callable[[bytes], None]] = []
        self._line_listeners: list[Callable[[str], None]] = []
        self._thread = threading.Thread(target=self._pump, name="console", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        with suppress(OSError):
            self._log_stream.close()

    # What the host says.

    def send(self, data: bytes | str) -> int:
        """Type bytes on the guest's terminal. Text goes as UTF-8.

        Raises:
            pexpect.EOF: QEMU has ended.
        """
        raw = data.encode() if isinstance(data, str) else data
        try:
            self._connection.sendall(raw)
        except OSError as error:
            raise pexpect.EOF(f"the console is closed: {error.strerror}") from error
        return len(raw)

    def sendline(self, data: bytes | str = b"") -> int:
        """Type a line and Enter."""
        raw = data.encode() if isinstance(data, str) else data
        return self.send(raw + b"\r")

    def note(self, text: str) -> None:
        """Put a line of the host's own into the log."""
        with self._changed:
            self._write_log(f">>> {text}")
        if self._record is not None:
            self._record.mark(text)

    # What the guest says.

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> bytes:
        """At most `size` bytes, as soon as there is one; pexpect's reading primitive.

        Raises:
            pexpect.TIMEOUT, pexpect.EOF, ConsoleBadnessError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._unread:
            self.check()
            left = _WAKE_SECONDS if deadline is None else deadline - time.monotonic()
            with suppress(queue.Empty):
                self._unread = self._queue.get(timeout=max(0.0, min(left, _WAKE_SECONDS)))
                if not self._unread:
                    self._queue.put(b"")  # Whoever reads next has to see the end as well.
                    self.check(now=True)
                    self.flag_eof = True
                    raise pexpect.EOF("the machine ended")
            if left <= 0 and not self._unread:
                raise pexpect.TIMEOUT("the console is silent")
        piece, self._unread = self._unread[:size], self._unread[size:]
        return piece

    def forget_unread(self) -> None:
        """What the guest has printed so far is not for the next reader."""
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                self.read_nonblocking(_CHUNK_BYTES, timeout=0)
        # pexpect looks again at what an `expect` that ran out of time had seen.
        self._buffer, self._before = io.BytesIO(), io.BytesIO()

    def read_line(self, seconds: float) -> bytes:
        """The next line without its end, waiting at most so many seconds for its end.

        Raises:
            pexpect.TIMEOUT, pexpect.EOF, ConsoleBadnessError.
        """
        self.expect_exact([b"\n"], timeout=seconds)
        return bytes(self.before or b"").rstrip(b"\r")

    def check(self, *, now: bool = False) -> None:
        """Raise ConsoleBadnessError if there was trouble; by default only when its story is told."""
        if self._trouble is None:
            return
        at, kind, line = self._trouble
        if now or time.monotonic() - at >= _AFTER_TROUBLE_SECONDS:
            raise ConsoleBadnessError(
                f"The machine '{self._machine}' is in trouble ({kind}): {line}",
                console_tail=self.tail(),
            )

    def report_trouble(self, kind: str, text: str) -> None:
        """Something else than the console has shown trouble; it comes before what the guest makes of it."""
        with self._changed:
            self._write_log(f">>> trouble: {text}")
            self._trouble, self._is_provisional = (time.monotonic(), kind, text), False
            self._changed.notify_all()
        if self._record is not None:
            self._record.mark(f"trouble ({kind}): {text}")

    def tail(self, count: int = _SHOWN_LINES) -> list[str]:
        """The last lines that are not empty, an unfinished one included."""
        with self._changed:
            lines = [line.text for line in self.history[-4 * count :]]
            lines.append(plain_text(self._line))
        return [line for line in lines if line.strip()][-count:]

    def wait_for_line(
        self, pattern: re.Pattern[str], *, seconds: float, start: int = 0
    ) -> str | None:
        """The first line of the history that matches, waiting for it; None if it does not come in time.

        Args:
            pattern: searched in each line, also in an unfinished one.
            seconds: how long to wait.
            start: index in `history` from which to look.

        Raises:
            ConsoleBadnessError, pexpect.EOF.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self.history[start:]:
                    if pattern.search(line.text):
                        return line.text
                start = max(start, len(self.history))
                if pattern.search(plain_text(self._line)):
                    return plain_text(self._line)
                self.check(now=self._ended)
                if self._ended:
                    raise pexpect.EOF("the machine ended")
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, _WAKE_SECONDS))

    def add_listener(self, listener: Callable[[bytes], None], *, unread: bool = False) -> None:
        """Call this, on the reading thread, with all bytes from now on.

        Args:
            listener: the call; no bytes mean that the guest's end is closed.
            unread: begin with what came and was not read yet, here and now; it stays to be read.
        """
        with self._handing_out:
            earlier = [self._queue.get() for _ in range(self._queue.qsize())] if unread else []
            for chunk in earlier:
                self._queue.put(chunk)
                listener(chunk)
            self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[bytes], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    @property
    def ended(self) -> bool:
        """Whether the guest's end is closed: no byte will come."""
        return self._ended

    def recall(self, lines: Iterable[tuple[float, str]]) -> None:
        """Put what an earlier run of the guest printed before this one's history: (seconds, text).

        Trouble in it is trouble now.
        """
        lines = list(lines)
        end = lines[-1][0] if lines else 0.0
        with self._changed:
            self.history[:0] = [ConsoleLine(at - end, text) for at, text in lines]
            for _at, text in lines:
                self._watch(text)

    def add_line_listener(self, listener: Callable[[str], None]) -> None:
        """Call this, on the reading thread, with each line from now on."""
        self._line_listeners.append(listener)

    def _pump(self) -> None:
        while True:
            try:
                chunk = self._connection.recv(_CHUNK_BYTES)
            except OSError:
                chunk = b""
            if self._record is not None:
                self._record.console(chunk)
            with self._changed:
                self.last_heard = time.monotonic()
                self._take(chunk)
                self._ended = not chunk
                self._changed.notify_all()
            with self._handing_out:
                self._queue.put(chunk)
                for listener in tuple(self._listeners):
                    listener(chunk)
            if not chunk:
                return

    def _take(self, chunk: bytes) -> None:
        *lines, self._line = (self._line + chunk).split(b"\n")
        if not chunk or len(self._line) > _LONGEST_LINE:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            if not is_frame(line):
                self._note_line(plain_text(line))
        self._watch(plain_text(self._line), unfinished=True)

    def _note_line(self, text: str) -> None:
        # Frames come with empty lines around them; one between two lines of words is enough.
        if not text and not (self.history and self.history[-1].text):
            return
        self._watch(text)
        self.history.append(ConsoleLine(time.monotonic() - self._begun, text))
        self._write_log(text)
        for listener in self._line_listeners:
            listener(text)

    def _write_log(self, text: str) -> None:
        # A full disk costs the log, not the reading thread: the guest is watched all the same.
        with suppress(OSError):
            self._log_stream.write(f"[{time.monotonic() - self._begun:9.3f}] {text}\n")
            self._log_stream.flush()

    def _watch(self, text: str, *, unfinished: bool = False) -> None:
        if self._is_provisional and not unfinished:
            # What was seen in a part of this line: the whole of it may be allowed.
            self._trouble, self._is_provisional = None, False
        if self._trouble is None and (kind := find_badness(text, self.expected)) is not None:
            self._trouble = (time.monotonic(), kind, text.strip())
            self._is_provisional = unfinished
            if self._record is not None:
                self._record.mark(f"trouble ({kind}): {text.strip()}")
