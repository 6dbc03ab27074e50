"""What hands can do to a machine while it runs: its screen, cables, disks and power button."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.process import run
from bootc_build.vm.accel import Acceleration
from bootc_build.vm.block import DiskFilter
from bootc_build.vm.console import Console
from bootc_build.vm.errors import MachineError, WaitTimeoutError
from bootc_build.vm.process import QemuProcess
from bootc_build.vm.spec import MachineSpec

MENU_SECONDS = 120.0
# Keys of GRUB's menu that every terminal has: Ctrl-A and Ctrl-N.
_FIRST_ENTRY = b"\x01"
_NEXT_ENTRY = b"\x0e"


class Hardware(ABC):
    """A machine from outside. All of it raises a MachineError when the machine is off."""

    acceleration: Acceleration
    spec: MachineSpec
    _filters_put = 0

    @property
    @abstractmethod
    def console(self) -> Console:
        """The serial console."""

    @property
    @abstractmethod
    def qemu(self) -> QemuProcess:
        """The running QEMU."""

    def screenshot(self, target: Path) -> Path:
        """Take a picture of the screen.

        Args:
            target: the new file, in PNG; its folder is there.

        Returns:
            The file.
        """
        place = str(target.absolute())
        self.qemu.monitor.execute("screendump", filename=place, format="png")
        return target

    def link(self, *, up: bool, card: int = 0) -> None:
        """Pull the cable of a network card, or put it in again.

        Args:
            up: whether there is a link afterwards.
            card: 0 is on the user-mode network, 1 on the first private one, and so on.

        Raises:
            MachineError: also when there is no such card.
        """
        cards = range(0 if self.spec.network else 1, 1 + len(self.spec.private_networks))
        if card not in cards:
            raise MachineError(f"The machine '{self.spec.name}' has no network card {card}.")
        self.console.note(f"network card {card}: link {'up' if up else 'down'}")
        self.qemu.monitor.execute("set_link", name=f"net{card}", up=up)

    @contextmanager
    def link_down(self, *, card: int = 0) -> Iterator[None]:
        """No link on a network card for the length of a block."""
        qemu = self.qemu
        self.link(up=False, card=card)
        try:
            yield
        finally:
            if qemu.alive:
                self.link(up=True, card=card)

    def press_power_button(self) -> None:
        """Press the power button once and return at once; what the guest does then is its own decision."""
        self.console.note("power button")
        self.qemu.monitor.execute("system_powerdown")

    def choose_menu_entry(self, number: int, *, seconds: float = MENU_SECONDS) -> None:
        """Wait for GRUB's menu on the serial console of a starting machine, and choose an entry.

        Args:
            number: 1 is the first entry.
            seconds: how long the menu may take to come (scaled).

        Raises:
            UsageError: the number is none of an entry.
            WaitTimeoutError: no menu came.
        """
        if number < 1:
            raise UsageError(f"{number} is no entry of a menu.", "The first one is 1.")
        limit = self.acceleration.seconds(seconds)
        try:
            self.console.expect_exact([b"GNU GRUB"], timeout=limit)
            # The entries are drawn before keys are read, the help below them last.
            self.console.expect([rb"commands before booting|Press enter to boot"], timeout=limit)
        except pexpect.TIMEOUT as error:
            raise WaitTimeoutError(
                f"No menu of GRUB's came up on the guest's console within {limit:.0f} seconds.",
                "Does its GRUB use the serial line, with a timeout of a second or more?",
                self.console.tail(),
            ) from error
        self.console.note(f"menu entry {number}")
        self.console.send(_FIRST_ENTRY + (number - 1) * _NEXT_ENTRY + b"\r")

    @contextmanager
    def disk_filtered(self, disk_filter: DiskFilter, *, disk: int = 0) -> Iterator[None]:
        """Put something between the running guest and a disk for the length of a block.

        Args:
            disk_filter: a log of all writes, errors (bootc_build.vm.block).
            disk: which of the spec's disks.

        Raises:
            MachineError: the machine is off, or QEMU refuses.
        """
        qemu = self.qemu
        self._filters_put += 1
        self.console.note(f"disk {disk}: {disk_filter}")
        qemu.put_filter(disk, disk_filter, f"put{self._filters_put}")
        try:
            yield
        finally:
            if qemu.alive:
                qemu.remove_filter(disk, disk_filter)
                self.console.note(f"disk {disk}: as before")

    def copy_disk(self, target: Path, *, disk: int = 0) -> None:
        """Copy what is on a disk of the running machine at this moment, as if its power were cut now.

        The guest stands still meanwhile. The copy is what the guest wrote: a qcow2 overlay above the spec's disk.

        Args:
            target: the new file.
            disk: which of the spec's disks.
        """
        with self.qemu.stopped():
            source = self.qemu.disks[disk].path
            run(["cp", "--reflink=auto", "--sparse=always", str(source), str(target)])
