"""A virtual machine as a test or a command sees it: start it, talk to it, restart it, cut its power."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import pexpect

from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.accel import Acceleration, find_acceleration
from bootc_build.vm.argv import MemoryFile
from bootc_build.vm.console import Console
from bootc_build.vm.errors import (
    EmulatorCrashError,
    MachineDiedError,
    MachineError,
    WaitTimeoutError,
)
from bootc_build.vm.guest import Guest
from bootc_build.vm.guest_bootc import BootcCommand
from bootc_build.vm.hardware import Hardware
from bootc_build.vm.login import reach_shell
from bootc_build.vm.process import QemuProcess
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.run import Run, power_on
from bootc_build.vm.shell import GuestShell, Shell
from bootc_build.vm.snapshot import Snapshot
from bootc_build.vm.spec import MachineSpec
from bootc_build.vm.waiting import wait_until

# Seconds on a quiet machine under TCG; all are multiplied by the accelerator's time scale.
BOOT_SECONDS = 300.0
SHUTDOWN_SECONDS = 120.0
RESTORE_SECONDS = 60.0
_SHELL_SECONDS = 60.0
_LANE_SECONDS = 3.0
_OVERLAYS = ("disk*.qcow2", "variables.fd")


class Machine(Hardware, Guest):
    """A virtual machine; a context manager, at whose end QEMU and everything that it made is gone.

    Entering it starts nothing: `boot()` does, and again after `shutdown()` or `power_cut()`, with the disks
    as the last run left them. What can be said to the guest is in `Guest`,
    what hands can do to the machine in `Hardware`.

    Args:
        spec: what it is made of.
        acceleration: how it is run; by default what the probe finds.
        log: console log; by default in the machine's private folder, which goes with the machine.
        folder: where the private folder is made; it holds what the guest writes.
        record: gets what all runs of the machine print, and what passes its monitor.

    Attributes:
        bootc: the guest's `bootc`.
        expected_trouble: console lines that match one of these are no trouble.
        record: the one that it was given.
        snapshot: what it was restored from; None if it has booted.
    """

    def __init__(
        self,
        spec: MachineSpec,
        *,
        acceleration: Acceleration | None = None,
        log: Path | None = None,
        folder: Path | None = None,
        record: MachineRecord | None = None,
    ) -> None:
        self.spec = spec
        self.record = record
        self.snapshot: Snapshot | None = None
        self.name = spec.name
        self.acceleration = acceleration or find_acceleration()
        self.bootc = BootcCommand(self)
        self.expected_trouble: list[re.Pattern[str]] = []
        self._log = log
        self._parent_folder = folder or scratch_folder()
        self._machine_stack = ExitStack()
        self._run_stack = ExitStack()
        self._folder: Path | None = None
        self._run: Run | None = None

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
        return self._on.console

    @property
    def qemu(self) -> QemuProcess:
        """The running QEMU.

        Raises:
            MachineError: the machine is off.
        """
        return self._on.qemu

    @property
    def has_lane(self) -> bool:
        """Whether commands go over the virtio serial port."""
        return self._run is not None and self._shell is not None and self._shell is self._run.lane

    def seconds(self, nominal: float) -> float:
        """So many seconds of a quiet machine under TCG, in seconds of this one as busy as it is now."""
        return self.acceleration.seconds(nominal)

    def start(self, *, memory: MemoryFile | None = None, snapshot: Snapshot | None = None) -> None:
        """Turn the machine on and return at once.

        Args:
            memory: a file to be its RAM.
            snapshot: the state to be in, stopped, instead of the beginning of a boot.

        Raises:
            MachineError: it is on already, or QEMU does not start.
        """
        if self._run is not None:
            raise MachineError(f"The machine '{self.spec.name}' is on already.")
        assert self._folder is not None  # noqa: S101 - entered
        self._run = self._run_stack.enter_context(
            power_on(
                self.spec,
                self.acceleration,
                self._folder,
                log=self.log_path,
                expected=self.expected_trouble,
                record=self.record,
                memory=memory,
                snapshot=snapshot,
            )
        )

    def boot(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Turn the machine on and wait for a root shell on its console.

        Args:
            seconds: how long that may take (scaled).
        """
        self.start()
        self.wait_for_shell(seconds=seconds)

    def restore(self, snapshot: Snapshot, *, seconds: float = RESTORE_SECONDS) -> None:
        """Turn the machine on in the state of a snapshot, with a root shell and the right time.

        The boot id, and all else that a boot makes up, is the snapshot's. What that boot printed is in the
        console's history.

        Args:
            snapshot: of a machine of the same spec; it has to stay in use for as long as this machine.
            seconds: how long it may take (scaled).

        Raises:
            MachineError: QEMU does not load it, or the guest does not answer.
        """
        self.start(snapshot=snapshot)
        self.console.recall(snapshot.facts.lines)
        self.console.note(_origin(snapshot))
        scale = self.acceleration.time_scale
        shell: Shell
        if snapshot.facts.lane:
            assert self._on.lane is not None  # noqa: S101 - the snapshot's spec is this machine's
            shell = self._on.lane
        else:
            shell = GuestShell(self.console, time_scale=scale)
        with self._deaths_explained("a restored shell"):
            self.qemu.resume()
            shell.take_over(seconds=self.seconds(seconds))
        self._shell = shell
        self.snapshot = snapshot

    def hand_over(self, place: Path) -> None:
        """Turn the machine off and move what it wrote into a folder; it is as new afterwards."""
        self._end_run()
        for path in self._written():
            shutil.move(path, place / path.name)

    def forget(self) -> None:
        """Turn the machine off and forget what it wrote."""
        self._end_run()
        for path in self._written():
            path.unlink()

    def wait_for_shell(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Wait until there is a shell: on the lane if the guest has one, else on its console (scaled seconds)."""
        scale = self.acceleration.time_scale
        with self._deaths_explained("a shell"):
            on_console = reach_shell(
                self.console,
                login=self.spec.login,
                seconds=self.seconds(seconds),
                time_scale=scale,
                elsewhere=self._is_on_lane,
            )
            # The lane's unit starts before the console's getty: what has not come soon does not come.
            patience = _LANE_SECONDS * scale if self.spec.lane else 0
            if not on_console or wait_until(self._is_on_lane, seconds=patience):
                self._shell = self._on.lane
            else:
                self._shell = self._console_shell()

    def shutdown(self, *, seconds: float = SHUTDOWN_SECONDS) -> float:
        """Power the guest off in good order.

        Args:
            seconds: how long it may take (scaled).

        Returns:
            The seconds that it took.
        """
        begun = time.monotonic()
        self.begin("systemctl poweroff")
        if not self.qemu.wait_for_end(self.seconds(seconds)):
            raise WaitTimeoutError(
                f"The guest did not power off within {self.seconds(seconds):.0f} seconds.",
                console_tail=self.console.tail(),
            )
        took = time.monotonic() - begun
        self._end_run()
        return took

    def soft_kill(self, *, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Turn the machine off as a person does: the power button, and the plug if that does not help.

        It needs no shell.

        Args:
            seconds: how long the guest may take to power itself off (scaled).

        Returns:
            Whether the guest did.
        """
        self.press_power_button()
        obeyed = self.qemu.wait_for_end(self.seconds(seconds))
        if not obeyed:
            self.console.note("the power button did not help")
        self.power_cut()
        return obeyed

    def power_cut(self) -> None:
        """Turn the machine off as if its plug were pulled; what the guest had written stays written."""
        self.console.note("power cut")
        self._end_run()

    def reboot(self, *, seconds: float = BOOT_SECONDS, menu_entry: int | None = None) -> None:
        """Restart the guest in good order and wait for a shell of the new boot.

        Args:
            seconds: how long shutdown and boot may take (scaled).
            menu_entry: the entry of GRUB's menu to choose, 1 is the first; GRUB chooses by default.

        Raises:
            MachineError: also when the guest is still in the same boot afterwards.
        """
        with self.expect_reboot(seconds=seconds):
            self.begin("systemctl reboot")
            if menu_entry is not None:
                self.choose_menu_entry(menu_entry, seconds=seconds)

    @contextmanager
    def expect_reboot(self, *, seconds: float = BOOT_SECONDS) -> Iterator[None]:
        """What is done inside makes the guest restart; at the end a shell of the new boot is there."""
        before = self.boot_id()
        self.qemu.set_reboot_allowed(allowed=True)
        with self.expect_new_shell(seconds=seconds):
            yield
        if not self.spec.may_reboot:
            self.qemu.set_reboot_allowed(allowed=False)
        if self.boot_id() == before:
            raise MachineError(
                "The guest is still in the same boot although a restart was expected.",
                console_tail=self.console.tail(),
            )

    @contextmanager
    def expect_new_shell(self, *, seconds: float = BOOT_SECONDS) -> Iterator[None]:
        """What is begun inside ends the shell (a change to emergency mode); at the end there is another one.

        Args:
            seconds: how long that may take (scaled).
        """
        self.console.forget_unread()  # An old prompt is no new shell.
        yield
        self._shell = None
        self.wait_for_shell(seconds=seconds)

    @contextmanager
    def lend_console(self) -> Iterator[Console]:
        """The console for a person: with echo and a prompt, framed again afterwards if that can be done.

        Raises:
            MachineError: the machine is off.
        """
        console = self.console
        console.note("the console is lent to a person")
        shell = self._shell
        if not isinstance(shell, GuestShell):
            yield console
            console.note("the console is back")
            return
        self._shell = None
        if not console.ended:
            shell.hand_over()
        yield console
        console.note("the console is back")
        if not console.ended:
            # What was begun and not ended by the person is interrupted.
            with suppress(MachineError, pexpect.EOF):
                console.send("\x03\n")
                reach_shell(
                    console,
                    login=self.spec.login,
                    seconds=self.seconds(_SHELL_SECONDS),
                    time_scale=self.acceleration.time_scale,
                )
                self._shell = self._console_shell()

    # Inside.

    @property
    def _on(self) -> Run:
        if self._run is None:
            raise MachineError(f"The machine '{self.spec.name}' is off.", "Boot it first.")
        return self._run

    def _is_on_lane(self) -> bool:
        return self._on.lane is not None and self._on.lane.has_said_hello()

    def _console_shell(self) -> GuestShell:
        shell = GuestShell(self.console, time_scale=self.acceleration.time_scale)
        shell.prepare(seconds=self.seconds(_SHELL_SECONDS))
        return shell

    def _written(self) -> list[Path]:
        assert self._folder is not None  # noqa: S101 - entered
        return [path for pattern in _OVERLAYS for path in self._folder.glob(pattern)]

    def _end_run(self) -> None:
        self._run = self._shell = self.snapshot = None
        self._run_stack.close()

    @contextmanager
    def _deaths_explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except pexpect.EOF as end:
            why = self.qemu.why_it_ended()
            kind = EmulatorCrashError if self.qemu.has_crashed else MachineDiedError
            raise kind(
                f"The machine '{self.spec.name}' ended while {what} was awaited. {why}",
                console_tail=self.console.tail(),
            ) from end


def _origin(snapshot: Snapshot) -> str:
    facts = snapshot.facts
    failed = f"; failed units: {' '.join(facts.failed_units)}" if facts.failed_units else ""
    return f"restored from a snapshot made {snapshot.age:.0f} seconds ago ({facts.settled}{failed})"
