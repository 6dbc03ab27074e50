"""Commands in the guest over a console that is shared with kernel messages.

A command travels as base64 in short lines; its standard output and error go to files in the guest. A header
line then tells its exit status and, of each file, size and SHA-256; the files follow as numbered base64
lines. Each line begins with a nonce, which is written in two halves in what the host types, so that an echo
never looks like an answer. A line into which the kernel has written does not fit its form (nonce, number,
alphabet, length) and is asked for again; a lost header too. So nothing that is printed in between can change
what the caller gets, only delay it.

The guest needs a POSIX shell and coreutils (`base64 head nl sed sha256sum wc`).
"""

import base64
import binascii
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pexpect

from bootc_build.vm.console import Console
from bootc_build.vm.errors import ShellLostError

_LINE_BASE64 = (
    896  # A whole line stays below 1 KiB; a multiple of 4, so each line decodes by itself.
)
_WINDOW_LINES = 16
_FRUITLESS_ROUNDS = 5
_RETRY_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 60.0
_INTERRUPT_SECONDS = 10.0
_SED_LINES = 60  # Line numbers in one request for damaged lines: their list stays below 1 KiB.
# How often the retry interval a shell has for an answer after its line was echoed, which it never lets happen.
_ECHO_RETRIES = 3
# What other programs say to what is typed for our shell: another shell, a login.
_STRANGER = re.compile(rb"_b_[ax]: (?:command |applet )?not found|(?:login|[Pp]assword): .*_bn=")
_KERNEL_MESSAGE = re.compile(rb"\[ *\d+\.\d{6}\] ")

_PREPARE = "export TERM=dumb; stty -echo -ixon; unset PROMPT_COMMAND PS0 ENV; {mark}; exec env PS1= PS2= sh -i"
_HAND_OVER = (
    "stty sane; export TERM=vt220 PS1='root@guest:$PWD# ' PS2='> ';"
    " command -v bash >/dev/null && exec bash --norc -i; exec sh -i"
)
_GUEST_HALF = Path(__file__).with_name("guest_shell.sh")
_MARK = "printf '\\n@%s:end@\\n' $_bn"
_TELL_CLOCK = "printf '\\n@%s:now:%s@\\n' $_bn $(date +%s)"
# How far off a restored guest's clock may be.
CLOCK_SECONDS = 1.5


@dataclass(frozen=True)
class CommandResult:
    """How a command in the guest ended.

    Args:
        status: exit status; 128 + n when it was ended by signal n.
        stdout: what it wrote to standard output.
        stderr: what it wrote to standard error.
    """

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; undecodable bytes are escaped."""
        return self.stdout.decode(errors="backslashreplace")

    @property
    def error_text(self) -> str:
        """Standard error as text; undecodable bytes are escaped."""
        return self.stderr.decode(errors="backslashreplace")


class Shell(Protocol):
    """A root shell in the guest, however it is reached: `GuestShell` or `bootc_build.vm.lane.Lane`."""

    def run(self, command: str, *, seconds: float) -> CommandResult:
        """Run a command to its end."""

    def cast(self, command: str) -> None:
        """Start what ends this shell; there is no answer to wait for."""

    def upload(self, content: bytes) -> str:
        """Bring bytes into the guest and return the path of the temporary file that holds them there."""

    def take_over(self, *, seconds: float) -> None:
        """Speak to a shell that was there before its guest was stopped, and set the guest's clock by ours."""


class CommandOverrunError(Exception):
    """A command ran out of its time and was interrupted; carries what it had printed until then."""

    def __init__(self, partial: CommandResult) -> None:
        super().__init__("the command ran out of its time")
        self.partial = partial


@dataclass
class _File:
    """One of a command's two files, as its lines come in."""

    digest: str
    size: int
    lines: dict[int, bytes] = field(default_factory=dict)

    @property
    def line_count(self) -> int:
        return -(-(-(-self.size // 3) * 4) // _LINE_BASE64)

    def missing(self) -> list[int]:
        return [n for n in range(1, self.line_count + 1) if n not in self.lines]

    def take(self, number: int, text: bytes) -> bool:
        """Keep a line if it has the form that its number asks for."""
        last = self.line_count
        whole = (
            _LINE_BASE64 if number < last else -(-self.size // 3) * 4 - (last - 1) * _LINE_BASE64
        )
        if not 1 <= number <= last or len(text) != whole:
            return False
        try:
            self.lines[number] = base64.b64decode(text, validate=True)
        except binascii.Error:
            return False
        return True

    def content(self) -> bytes | None:
        whole = b"".join(self.lines[n] for n in sorted(self.lines))
        intact = len(whole) == self.size and (
            not whole or hashlib.sha256(whole).hexdigest() == self.digest
        )
        return whole if intact else None


class GuestShell:
    """A root shell on a console, spoken to in frames.

    Args:
        console: with a shell waiting on it.
        time_scale: factor for the retry intervals; not for the callers' own limits.
    """

    def __init__(self, console: Console, *, time_scale: float = 1.0) -> None:
        self._console = console
        self._retry = _RETRY_SECONDS * time_scale
        self._longest_retry = _LONGEST_RETRY_SECONDS * time_scale
        self._interrupt_seconds = _INTERRUPT_SECONDS * time_scale
        self._torn = b""

    def prepare(self, *, seconds: float) -> None:
        """Turn echo, prompt and line editing off and define the guest's half.

        Raises:
            ShellLostError: no answer in so many seconds.
        """
        deadline = time.monotonic() + seconds
        nonce = _nonce()
        # What is typed while readline holds the terminal would not be read as lines later: wait for the mark.
        self._say(nonce, _PREPARE.format(mark=_MARK))
        if self._await_mark(nonce, b"end", seconds):
            for line in _GUEST_HALF.read_text().splitlines():
                if not line.startswith("#"):
                    self._type(line)
            while (left := deadline - time.monotonic()) > 0:
                nonce = _nonce()
                self._say(nonce, _MARK)
                if self._await_mark(nonce, b"end", min(self._retry, left)):
                    return
        raise ShellLostError(
            f"The guest's shell did not answer within {seconds:.0f} seconds.",
            console_tail=self._console.tail(),
        )

    def hand_over(self) -> None:
        """Give the terminal echo, editing and a prompt again, for a person; `prepare` takes it back."""
        self._type(_HAND_OVER)

    def take_over(self, *, seconds: float) -> None:
        """Speak to a shell that was prepared before its guest was stopped, and set the guest's clock by ours.

        Nothing else is said to the guest before its clock is right.

        Raises:
            ShellLostError: no answer in so many seconds, or the clock stays wrong.
        """
        deadline = time.monotonic() + seconds
        told: float | None = None
        while (left := deadline - time.monotonic()) > 0:
            nonce = _nonce()
            self._say(nonce, f"{clock_setting()};{_TELL_CLOCK}")
            told = self._await_clock(nonce, min(self._retry, left))
            # An answer that was long on its way set the clock too late: once more, it is awake now.
            if told is not None and abs(told - time.time()) <= CLOCK_SECONDS:
                return
        fact = "did not answer" if told is None else f"stays {told - time.time():+.0f} seconds off"
        raise ShellLostError(
            f"The restored guest's {'shell' if told is None else 'clock'} {fact} "
            f"(waited {seconds:.0f} seconds).",
            console_tail=self._console.tail(),
        )

    def run(self, command: str, *, seconds: float) -> CommandResult:
        """Run a command (by bash where there is one, else sh; its standard input is /dev/null) to its end.

        Args:
            command: a script; any text.
            seconds: how long it may take; the transfer of its output comes on top.

        Raises:
            CommandOverrunError: it took longer, and was interrupted.
            ShellLostError: the shell no longer answers; told at once where another program is seen in its place.
            ConsoleBadnessError, pexpect.EOF: the machine is in trouble, or gone.
        """
        nonce = _nonce()
        self._type("_bc=")
        encoded = base64.b64encode(command.encode()).decode()
        for at in range(0, len(encoded), _LINE_BASE64):
            self._type(f"_bc=${{_bc}}{encoded[at : at + _LINE_BASE64]}")
        self._say(nonce, "_b_x $_bn")
        header = self._await_header(nonce, time.monotonic() + seconds)
        if header is None:
            status, files = self._interrupt(nonce)
            raise CommandOverrunError(self._collect(nonce, status, files))
        return self._collect(nonce, *header)

    def cast(self, command: str) -> None:
        """Start what ends this shell; there is no answer to wait for."""
        self._type(command)

    def upload(self, content: bytes) -> str:
        """Bring bytes into the guest and return the path of the temporary file that holds them there.

        Raises:
            ShellLostError, ConsoleBadnessError, pexpect.EOF.
        """
        digest = hashlib.sha256(content).hexdigest()
        encoded = base64.b64encode(content)
        lines = [encoded[at : at + _LINE_BASE64] for at in range(0, len(encoded), _LINE_BASE64)]
        for _attempt in range(_FRUITLESS_ROUNDS):
            self._type(": >$_b/i")
            for at in range(0, len(lines), _WINDOW_LINES):
                window = lines[at : at + _WINDOW_LINES]
                nonce = _nonce()
                self._say(nonce, f"_b_w $_bn {len(window)}")
                self._console.send(b"\n".join(window) + b"\n")
                self._await_mark(nonce, b"got", self._retry)
            # The shell's own variables are not the command's, but its script is in the same folder.
            done = self.run(
                "d=${0%/*}; base64 -d $d/i >$d/f && sha256sum <$d/f && echo $d/f",
                seconds=self._longest_retry,
            )
            said = done.text.split()
            if done.status == 0 and said[0] == digest:
                return said[-1]
        raise ShellLostError(
            f"A file of {len(content)} bytes did not come into the guest unharmed.",
            console_tail=self._console.tail(),
        )

    def _type(self, line: str) -> None:
        # A newline ends a line for a terminal in any mode; a carriage return only where it is translated.
        self._console.send(line + "\n")

    def _say(self, nonce: str, command: str) -> None:
        # The two halves stand apart, so that an echo of this line does not contain the nonce.
        self._type(f"_bn={nonce[:6]};_bn=${{_bn}}{nonce[6:]};{command}")

    def _read_line(self, deadline: float) -> bytes | None:
        """The next line, put together again where a kernel message tore it; None when time is up."""
        try:
            line = self._console.read_line(max(0.0, deadline - time.monotonic()))
        except pexpect.TIMEOUT:
            return None
        line, self._torn = self._torn + line, b""
        if (message := _KERNEL_MESSAGE.search(line)) is not None:
            self._torn = line[: message.start()]
        return line

    def _await_mark(self, nonce: str, mark: bytes, seconds: float) -> bool:
        wanted = b"@%s:%s@" % (nonce.encode(), mark)
        deadline = time.monotonic() + seconds
        while (line := self._read_line(deadline)) is not None:
            if wanted in line:
                return True
        return False

    def _await_clock(self, nonce: str, seconds: float) -> float | None:
        form = re.compile(rb"@%s:now:(\d+)@" % nonce.encode())
        deadline = time.monotonic() + seconds
        while (line := self._read_line(deadline)) is not None:
            if (found := form.search(line)) is not None:
                return float(found[1]) + 0.5  # It told whole seconds.
        return None

    def _await_header(self, nonce: str, deadline: float) -> tuple[int, tuple[_File, _File]] | None:
        """The header, asked for again at growing intervals; None when the deadline came first."""
        form = re.compile(
            rb"@%s:h:(\d+):([0-9a-f]{64}|-):(\d+):([0-9a-f]{64}|-):(\d+):h@" % nonce.encode()
        )
        echo = b"%s;_b_x " % nonce[6:].encode()
        wait = self._retry
        answer_due = deadline
        while time.monotonic() < deadline:
            again = time.monotonic() + wait
            while (line := self._read_line(min(again, answer_due))) is not None:
                if (found := form.search(line)) is not None:
                    status, *rest = (part.decode() for part in found.groups())
                    return int(status), (_File(rest[0], int(rest[1])), _File(rest[2], int(rest[3])))
                if _STRANGER.search(line) is not None:
                    raise self._stranger()
                if echo in line:
                    answer_due = min(deadline, time.monotonic() + _ECHO_RETRIES * self._retry)
            if answer_due < deadline and time.monotonic() >= answer_due:
                raise self._stranger()
            if time.monotonic() < deadline:
                # Lost to a kernel message, or not there yet: the shell reads this when it is free.
                self._say(nonce, "_b_a $_bn")
                wait = min(wait * 2, self._longest_retry)
        return None

    def _stranger(self) -> ShellLostError:
        return ShellLostError(
            "The guest's shell is gone: another program reads what is typed on its console.",
            console_tail=self._console.tail(),
        )

    def _interrupt(self, nonce: str) -> tuple[int, tuple[_File, _File]]:
        for key in (b"\x03", b"\x1c", b"\x03"):
            self._console.send(key)
            self._say(nonce, "[ -s $_b/s ] || echo 124 >$_b/s; _b_a $_bn")
            header = self._await_header(nonce, time.monotonic() + self._interrupt_seconds)
            if header is not None:
                return header
        raise ShellLostError(
            "A command in the guest ran out of its time, and nothing answers on the console any more.",
            console_tail=self._console.tail(),
        )

    def _collect(self, nonce: str, status: int, files: tuple[_File, _File]) -> CommandResult:
        by_letter = dict(zip(("o", "e"), files, strict=True))
        taken = self._read_data(nonce, by_letter)
        fruitless = 0
        while fruitless < _FRUITLESS_ROUNDS:
            contents = [file.content() for file in files]
            if contents[0] is not None and contents[1] is not None:
                return CommandResult(status, contents[0], contents[1])
            taken = 0
            for letter, file in by_letter.items():
                if not file.missing() and file.content() is None:
                    file.lines.clear()  # A line became another good one: take none on trust.
                    fruitless += 1
                missing = file.missing()
                for at in range(0, len(missing), _SED_LINES):
                    wanted = ";".join(f"{n}p" for n in missing[at : at + _SED_LINES])
                    self._say(nonce, f"_b_l $_bn {letter} '{wanted}'")
                    taken += self._read_data(nonce, by_letter)
            fruitless += taken == 0
        raise ShellLostError(
            "A command's output did not come out of the guest unharmed (is something still writing to it?).",
            console_tail=self._console.tail(),
        )

    def _read_data(self, nonce: str, files: dict[str, _File]) -> int:
        """Take data lines up to the end mark or until the console is silent; how many were good."""
        form = re.compile(rb"(\d+)@%s:([oe]):([A-Za-z0-9+/=]*)$" % nonce.encode())
        end = b"@%s:end@" % nonce.encode()
        taken = 0
        while (line := self._read_line(time.monotonic() + self._retry)) is not None:
            if (found := form.search(line)) is not None:
                taken += files[found[2].decode()].take(int(found[1]), found[3])
            elif end in line:
                break
        return taken


def clock_setting() -> str:
    """A command that sets the guest's clock to this moment."""
    now = time.time()
    # Not every date takes a fraction of a second.
    return f"date -s @{now:.3f} >/dev/null 2>&1 || date -s @{now:.0f} >/dev/null 2>&1"


def _nonce() -> str:
    return secrets.token_hex(6)
