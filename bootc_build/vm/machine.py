"""A virtual machine as a test or a command sees it: start it, talk to it, restart it, cut its power."""

import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pexpect

from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.accel import Acceleration, find_acceleration
from bootc_build.vm.bootc_status import Deployment, HostStatus, parse_status
from bootc_build.vm.console import Console
from bootc_build.vm.errors import (
    GuestCommandError,
    MachineDiedError,
    MachineError,
    WaitTimeoutError,
)
from bootc_build.vm.login import reach_shell
from bootc_build.vm.process import QemuProcess
from bootc_build.vm.shell import CommandOverrunError, CommandResult, GuestShell
from bootc_build.vm.spec import MachineSpec
from bootc_build.vm.waiting import wait_until

# Seconds on a quiet machine under TCG; all are multiplied by the accelerator's time scale.
BOOT_SECONDS = 300.0
SHUTDOWN_SECONDS = 120.0
COMMAND_SECONDS = 120.0
WAIT_SECONDS = 120.0
_SHELL_SECONDS = 60.0
_OUTPUT_TAIL = 4000
_BUSIEST = 6.0


class Machine:
    """A virtual machine; a context manager, at whose end QEMU and everything that it made is gone.

    Entering it starts nothing: `boot()` does, and again after `shutdown()` or `power_cut()`, with the disks
    as the last run left them. All methods that wait raise a MachineError (of some kind) when the guest
    dies, is in trouble or takes too long, with the last console lines.

    Args:
        spec: what it is made of.
        acceleration: how it is run; by default what the probe finds.
        log: console log; by default in the machine's private folder, which goes with the machine.
        folder: where the private folder is made; it holds what the guest writes.

    Attributes:
        bootc: the guest's `bootc`.
    """

    def __init__(
        self,
        spec: MachineSpec,
        *,
        acceleration: Acceleration | None = None,
        log: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.spec = spec
        self.acceleration = acceleration or find_acceleration()
        self.bootc = BootcCommand(self)
        self.expected_trouble: list[re.Pattern[str]] = []
        self._log = log
        self._parent_folder = folder or scratch_folder()
        self._machine_stack = ExitStack()
        self._run_stack = ExitStack()
        self._folder: Path | None = None
        self._qemu: QemuProcess | None = None
        self._console: Console | None = None
        self._shell: GuestShell | None = None

    def __enter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(prefix="bootc-build-vm-", dir=self._parent_folder)
        self._folder = Path(self._machine_stack.enter_context(folder))
        self._machine_stack.callback(self._end_run)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._machine_stack.close()

    # The machine.

    @property
    def log_path(self) -> Path:
        """The console log."""
        assert self._folder is not None  # noqa: S101 - entered
        return self._log or self._folder / "console.log"

    @property
    def console(self) -> Console:
        """The serial console, with all of pexpect's methods.

        Raises:
            MachineError: the machine is off.
        """
        if self._console is None:
            raise MachineError(f"The machine '{self.spec.name}' is off.", "Boot it first.")
        return self._console

    @property
    def qemu(self) -> QemuProcess:
        """The running QEMU.

        Raises:
            MachineError: the machine is off.
        """
        if self._qemu is None:
            raise MachineError(f"The machine '{self.spec.name}' is off.", "Boot it first.")
        return self._qemu

    def seconds(self, nominal: float) -> float:
        """So many seconds of a quiet machine under TCG, in seconds of this one as busy as it is now."""
        queue = os.getloadavg()[0] / (os.cpu_count() or 1)
        return nominal * self.acceleration.time_scale * min(max(queue, 1.0), _BUSIEST)

    def start(self) -> None:
        """Turn the machine on and return at once.

        Raises:
            MachineError: it is on already, or QEMU does not start.
        """
        if self._qemu is not None:
            raise MachineError(f"The machine '{self.spec.name}' is on already.")
        assert self._folder is not None  # noqa: S101 - entered
        with ExitStack() as stack:
            qemu = stack.enter_context(QemuProcess(self.spec, self.acceleration, self._folder))
            console = stack.enter_context(
                Console(
                    qemu.console,
                    log=self.log_path,
                    name=self.spec.name,
                    expected=self.expected_trouble,
                )
            )
            self._qemu, self._console = qemu, console
            self._run_stack = stack.pop_all()

    def boot(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Turn the machine on and wait for a root shell on its console.

        Args:
            seconds: how long that may take (scaled).
        """
        self.start()
        self.wait_for_shell(seconds=seconds)

    def wait_for_shell(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the console has a shell that answers in frames (scaled seconds)."""
        scale = self.acceleration.time_scale
        with self._deaths_explained("a shell"):
            reach_shell(
                self.console,
                login=self.spec.login,
                seconds=self.seconds(seconds),
                time_scale=scale,
            )
            shell = GuestShell(self.console, time_scale=scale)
            shell.prepare(seconds=self.seconds(_SHELL_SECONDS))
        self._shell = shell

    def shutdown(self, *, seconds: float = SHUTDOWN_SECONDS) -> float:
        """Power the guest off in good order.

        Args:
            seconds: how long it may take (scaled).

        Returns:
            The seconds that it took.
        """
        begun = time.monotonic()
        self._leave("systemctl poweroff")
        if not self.qemu.wait_for_end(self.seconds(seconds)):
            raise WaitTimeoutError(
                f"The guest did not power off within {self.seconds(seconds):.0f} seconds.",
                console_tail=self.console.tail(),
            )
        took = time.monotonic() - begun
        self._end_run()
        return took

    def power_cut(self) -> None:
        """Turn the machine off as if its plug were pulled; what the guest had written stays written."""
        self.console.note("power cut")
        self._end_run()

    def reboot(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Restart the guest in good order and wait for a shell of the new boot.

        Args:
            seconds: how long shutdown and boot may take (scaled).

        Raises:
            MachineError: also when the guest is still in the same boot afterwards.
        """
        with self.expect_reboot(seconds=seconds):
            self._leave("systemctl reboot")

    @contextmanager
    def expect_reboot(self, *, seconds: float = BOOT_SECONDS) -> Iterator[None]:
        """What is done inside makes the guest restart; at the end a shell of the new boot is there."""
        before = self.boot_id()
        self.qemu.set_reboot_allowed(allowed=True)
        yield
        self._shell = None
        self.wait_for_shell(seconds=seconds)
        if not self.spec.may_reboot:
            self.qemu.set_reboot_allowed(allowed=False)
        if self.boot_id() == before:
            raise MachineError(
                "The guest is still in the same boot although a restart was expected.",
                console_tail=self.console.tail(),
            )

    # Commands.

    def execute(self, command: str, *, seconds: float = COMMAND_SECONDS) -> CommandResult:
        """Run a shell command in the guest and return its status and output, whatever they are.

        Args:
            command: a script for bash, or sh in guests without it.
            seconds: how long it may take (scaled).

        Raises:
            GuestCommandError: it took longer; what it had printed is in the message.
        """
        if self._shell is None:
            raise MachineError(
                f"The machine '{self.spec.name}' has no shell.",
                "Boot it first.",
                self.console.tail(),
            )
        self.console.note(f"run: {command}")
        limit = self.seconds(seconds)
        with self._deaths_explained(f"'{command}'"):
            try:
                result = self._shell.run(command, seconds=limit)
            except CommandOverrunError as overrun:
                raise GuestCommandError(
                    f"'{command}' did not end within {limit:.0f} seconds",
                    _output_tail(overrun.partial),
                ) from None
        self.console.note(f"status {result.status}")
        return result

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
        quoted = shlex.quote(unit)

        def is_there() -> bool:
            now = self.execute(f"systemctl is-active {quoted}").text.strip()
            if now == "failed" and state != "failed":
                raise WaitTimeoutError(f"The unit {unit} has failed:\n{log()}")
            return now == state

        def log() -> str:
            return self.execute(f"systemctl status --no-pager -n 20 {quoted}").text

        self._wait(is_there, f"unit {unit} to be {state}", seconds, log)

    def wait_for_file(self, path: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until something is at a path in the guest (scaled seconds)."""
        command = f"test -e {shlex.quote(path)}"
        self._wait(lambda: self.execute(command).status == 0, f"file {path}", seconds)

    def wait_for_port(self, port: int, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until something listens on a TCP port in the guest (scaled seconds)."""
        command = f"ss -Htln 'sport = :{port}' | grep -q ."
        self._wait(lambda: self.execute(command).status == 0, f"port {port}", seconds)

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
        if self._shell is None:
            raise MachineError(f"The machine '{self.spec.name}' has no shell.", "Boot it first.")
        self.console.note(f"write {len(raw)} bytes to {path}")
        with self._deaths_explained(f"the transfer to {path}"):
            held = self._shell.upload(raw)
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

    # Inside.

    def _leave(self, command: str) -> None:
        """Start what ends the shell; there is no answer to wait for."""
        self.console.note(f"run: {command}")
        with self._deaths_explained(f"'{command}'"):
            self.console.send(f"{command}\n")

    def _end_run(self) -> None:
        self._qemu = self._console = self._shell = None
        self._run_stack.close()

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

    @contextmanager
    def _deaths_explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except pexpect.EOF as end:
            raise MachineDiedError(
                f"The machine '{self.spec.name}' ended while {what} was awaited. "
                f"{self.qemu.why_it_ended()}",
                console_tail=self.console.tail(),
            ) from end


class BootcCommand:
    """The guest's `bootc`, with typed answers."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def status(self) -> HostStatus:
        """What `bootc status` says."""
        return parse_status(self._machine.succeed("bootc status --format json"))

    @property
    def booted(self) -> Deployment:
        """The deployment that runs.

        Raises:
            GuestCommandError: the guest was not booted from an image.
        """
        return _required(self.status().booted, "booted")

    @property
    def staged(self) -> Deployment:
        """The deployment that the next boot will start.

        Raises:
            GuestCommandError: none is staged.
        """
        return _required(self.status().staged, "staged")

    @property
    def rollback_target(self) -> Deployment:
        """The deployment that a rollback goes back to.

        Raises:
            GuestCommandError: there is none.
        """
        return _required(self.status().rollback, "rollback")

    def upgrade(self, arguments: str = "", *, seconds: float = 600.0) -> str:
        """Run `bootc upgrade` and return what it prints (scaled seconds)."""
        return self._machine.succeed(f"bootc upgrade {arguments}".strip(), seconds=seconds)

    def switch(self, target: str, arguments: str = "", *, seconds: float = 600.0) -> str:
        """Run `bootc switch` and return what it prints (scaled seconds)."""
        command = f"bootc switch {arguments} {shlex.quote(target)}"
        return self._machine.succeed(command, seconds=seconds)

    def rollback(self) -> str:
        """Run `bootc rollback` and return what it prints."""
        return self._machine.succeed("bootc rollback")


def _required(deployment: Deployment | None, slot: str) -> Deployment:
    if deployment is None:
        raise GuestCommandError(f"'bootc status' shows no {slot} deployment")
    return deployment


def _output_tail(result: CommandResult) -> str:
    return (result.text + result.error_text)[-_OUTPUT_TAIL:]
