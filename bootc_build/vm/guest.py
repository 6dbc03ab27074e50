"""A guest with a root shell on its console: commands, waits, files, facts."""

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from bootc_build.vm.console import Console
from bootc_build.vm.errors import GuestCommandError, MachineError, WaitTimeoutError
from bootc_build.vm.shell import CommandOverrunError, CommandResult, Shell
from bootc_build.vm.waiting import wait_until

# Seconds on a quiet machine under TCG; all are multiplied by the machine's own scale.
COMMAND_SECONDS = 120.0
WAIT_SECONDS = 120.0
_OUTPUT_TAIL = 4000
_UNIT_HAS_FAILED = 99


class Guest(ABC):
    """What is said to a running guest; `Machine` says how it comes to run.

    All waits raise a MachineError (of some kind) when the guest dies, is in trouble or takes too long, with
    the last console lines.
    """

    name: str
    expected_trouble: list[re.Pattern[str]]
    _shell: Shell | None = None

    @property
    @abstractmethod
    def console(self) -> Console:
        """The serial console, with all of pexpect's methods.

        Raises:
            MachineError: the machine is off.
        """

    @abstractmethod
    def seconds(self, nominal: float) -> float:
        """So many seconds of a quiet machine under TCG, in seconds of this one as busy as it is now."""

    @abstractmethod
    def _deaths_explained(self, what: str) -> AbstractContextManager[None]:
        """Turns the end of the console into a MachineDiedError that says what was awaited."""

    def _needed_shell(self) -> Shell:
        if self._shell is None:
            raise MachineError(
                f"The machine '{self.name}' has no shell.", "Boot it first.", self.console.tail()
            )
        return self._shell

    # Commands.

    def execute(self, command: str, *, seconds: float = COMMAND_SECONDS) -> CommandResult:
        """Run a shell command in the guest and return its status and output, whatever they are.

        Args:
            command: a script for bash, or sh in guests without it.
            seconds: how long it may take (scaled).

        Raises:
            GuestCommandError: it took longer; what it had printed is in the message.
        """
        shell = self._needed_shell()
        self.console.note(f"run: {command}")
        limit = self.seconds(seconds)
        with self._deaths_explained(f"'{command}'"):
            try:
                result = shell.run(command, seconds=limit)
            except CommandOverrunError as overrun:
                raise GuestCommandError(
                    f"'{command}' did not end within {limit:.0f} seconds",
                    _output_tail(overrun.partial),
                ) from None
        self.console.note(f"status {result.status}")
        return result

    def begin(self, command: str) -> None:
        """Start what ends the shell; there is no answer to wait for.

        Raises:
            MachineError: there is no shell.
        """
        shell = self._needed_shell()
        self.console.note(f"run: {command}")
        with self._deaths_explained(f"'{command}'"):
            shell.cast(command)

    @contextmanager
    def trouble_allowed(self, pattern: str) -> Iterator[None]:
        """Console lines that match a regular expression are no trouble for the length of a block."""
        allowed = re.compile(pattern)
        self.expected_trouble.append(allowed)
        try:
            yield
        finally:
            self.expected_trouble.remove(allowed)

    def succeed(self, command: str, *, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command that has to succeed, and return its standard output.

        Raises:
            GuestCommandError: its status was not 0.
        """
        result = self.execute(command, seconds=seconds)
        if result.status != 0:
            raise GuestCommandError(
                f"'{command}' failed with status {result.status}", _output_tail(result)
            )
        return result.text

    def fail(self, command: str, *, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command that has to fail, and return its standard output and error together.

        Raises:
            GuestCommandError: its status was 0.
        """
        result = self.execute(command, seconds=seconds)
        if result.status == 0:
            raise GuestCommandError(f"'{command}' succeeded but should fail", _output_tail(result))
        return result.text + result.error_text

    # Waiting.

    def wait_until_succeeds(self, command: str, *, seconds: float = WAIT_SECONDS) -> str:
        """Run a command again and again until it succeeds, and return its standard output (scaled seconds).

        Raises:
            WaitTimeoutError: with what it last printed.
        """
        last: list[CommandResult] = []

        def succeeds() -> bool:
            last[:] = [self.execute(command, seconds=seconds)]
            return last[0].status == 0

        self._wait(succeeds, f"'{command}' to succeed", seconds, lambda: _output_tail(last[0]))
        return last[0].text

    def wait_for_unit(
        self, unit: str, *, state: str = "active", seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until a systemd unit is in a state (scaled seconds); at once over when it has failed.

        Raises:
            WaitTimeoutError: with the unit's own log.
        """
        command = f"systemctl is-active {shlex.quote(unit)}"

        def is_there() -> bool:
            now = self.execute(command).text.strip()
            if now == "failed" and state != "failed":
                raise self._unit_failed(unit)
            return now == state

        self._wait(is_there, f"unit {unit} to be {state}", seconds, lambda: self._unit_log(unit))

    def wait_for_file(
        self, path: str, *, unit: str | None = None, seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until something is at a path in the guest (scaled seconds).

        Args:
            path: absolute.
            unit: the systemd unit that makes it: when that has failed the wait is over, and its log is shown.
            seconds: how long it may take.
        """
        self._wait_for(f"test -e {shlex.quote(path)}", f"file {path}", unit, seconds)

    def wait_for_port(
        self, port: int, *, unit: str | None = None, seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until something listens on a TCP port in the guest (scaled seconds).

        Args:
            port: its number.
            unit: the systemd unit that listens: when that has failed the wait is over, and its log is shown.
            seconds: how long it may take.
        """
        self._wait_for(f"ss -Htln 'sport = :{port}' | grep -q .", f"port {port}", unit, seconds)

    def wait_for_console_text(self, pattern: str, *, seconds: float = WAIT_SECONDS) -> str:
        """The first console line of this run that matches a regular expression, waiting for it (scaled)."""
        with self._deaths_explained(f"console text /{pattern}/"):
            line = self.console.wait_for_line(re.compile(pattern), seconds=self.seconds(seconds))
        if line is None:
            raise WaitTimeoutError(
                f"Waited {self.seconds(seconds):.0f} seconds for console text /{pattern}/.",
                console_tail=self.console.tail(),
            )
        return line

    # Files.

    def read(self, path: str) -> str:
        """A text file of the guest."""
        return self.succeed(f"cat -- {shlex.quote(path)}")

    def write(self, path: str, content: str | bytes) -> None:
        """Make or replace a file of the guest, keeping owner and mode of one that is there."""
        raw = content.encode() if isinstance(content, str) else content
        shell = self._needed_shell()
        self.console.note(f"write {len(raw)} bytes to {path}")
        with self._deaths_explained(f"the transfer to {path}"):
            held = shell.upload(raw)
        self.succeed(f"cat {held} > {shlex.quote(path)} && rm {held}")

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file of the host into the guest, its executable bit included."""
        self.write(target, source.read_bytes())
        mode = source.stat().st_mode & 0o777
        self.succeed(f"chmod {mode:o} -- {shlex.quote(target)}")

    def copy_out(self, source: str, target: Path) -> None:
        """Copy a file of the guest to the host."""
        result = self.execute(f"cat -- {shlex.quote(source)}")
        if result.status != 0:
            raise GuestCommandError(f"Cannot read '{source}' in the guest", result.error_text)
        target.write_bytes(result.stdout)

    # Facts about the guest.

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return self.succeed("cat /proc/sys/kernel/random/boot_id").strip()

    def journal(self, *, arguments: str = "-b -n 3000", seconds: float = COMMAND_SECONDS) -> str:
        """The guest's journal as text.

        Args:
            arguments: for journalctl; by default the last lines of this boot.
            seconds: how long it may take (scaled).
        """
        return self.succeed(f"journalctl --no-pager {arguments}", seconds=seconds)

    def failed_units(self) -> list[str]:
        """The names of the systemd units that have failed."""
        listed = self.succeed("systemctl list-units --failed --plain --no-legend --no-pager")
        return [line.split()[0] for line in listed.splitlines() if line.strip()]

    def is_health_ok(self, *, seconds: float = WAIT_SECONDS) -> bool:
        """Whether the boot came to its end and no unit has failed, waiting for that end.

        Health checks are units that fail: those of the image that `boot-complete.target` requires count, too.

        Args:
            seconds: how long the boot may still take (scaled).

        Raises:
            GuestCommandError: it did not come to its end in that time.
        """
        state = self.execute("systemctl is-system-running --wait", seconds=seconds)
        return state.text.strip() == "running"

    def _wait_for(self, test: str, what: str, unit: str | None, seconds: float) -> None:
        """Wait for a test in the guest, which a unit is to make true."""
        failed = (
            f"|| {{ systemctl is-failed --quiet {shlex.quote(unit)} && exit {_UNIT_HAS_FAILED}; }}"
            if unit
            else ""
        )

        def is_there() -> bool:
            status = self.execute(f"{{ {test}; }} {failed}").status
            if unit and status == _UNIT_HAS_FAILED:
                raise self._unit_failed(unit, f" while {what} was awaited")
            return status == 0

        explain = partial(self._unit_log, unit) if unit else str
        self._wait(is_there, f"{what} of unit {unit}" if unit else what, seconds, explain)

    def _unit_failed(self, unit: str, when: str = "") -> WaitTimeoutError:
        return WaitTimeoutError(
            f"The unit {unit} has failed{when}:\n{self._unit_log(unit).rstrip()}",
            console_tail=self.console.tail(),
        )

    def _unit_log(self, unit: str) -> str:
        return self.execute(f"systemctl status --no-pager -n 20 {shlex.quote(unit)}").text

    def _wait(
        self,
        condition: Callable[[], bool],
        what: str,
        seconds: float,
        explain: Callable[[], str] = str,
    ) -> None:
        limit = self.seconds(seconds)
        if not wait_until(condition, seconds=limit, first_interval=0.2):
            details = explain().rstrip()
            raise WaitTimeoutError(
                f"Waited {limit:.0f} seconds for {what}." + (f"\n{details}" if details else ""),
                console_tail=self.console.tail(),
            )


def _output_tail(result: CommandResult) -> str:
    return (result.text + result.error_text)[-_OUTPUT_TAIL:]
