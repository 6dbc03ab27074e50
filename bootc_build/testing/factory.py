"""What the `bootc_vm` fixture is: brings machines up for one test, from snapshots where there are any."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Silent
from bootc_build.testing.artifacts import console_log, open_record
from bootc_build.vm.accel import Accelerator, find_acceleration, qemu_version
from bootc_build.vm.machine import Machine
from bootc_build.vm.snapshot import snapshot_shelf, why_not
from bootc_build.vm.spec import Disk, Firmware, MachineSpec
from bootc_build.vm.template import restore_or_make


class MachineFactory:
    """Calling it brings a machine up.

    Args:
        stack: ends the machines.
        folder: for what they leave behind.
        accelerator: "kvm" or "tcg"; None for what works best.
        machines: every machine that is made is put in.
        cold: machines boot, unless the call says otherwise.
        snapshot_bound: bytes that all snapshots may take; None for the usual.
    """

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        accelerator: str | None,
        machines: list[Machine],
        *,
        cold: bool = False,
        snapshot_bound: int | None = None,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._accelerator = Accelerator(accelerator) if accelerator else None
        self._machines = machines
        self._cold = cold
        self._shelf = snapshot_shelf(bound=snapshot_bound)

    def __call__(
        self,
        target: str | Path,
        *,
        origin: str | None = None,
        firmware: Firmware | str = Firmware.BIOS,
        boot: bool = True,
        cold: bool | None = None,
        spec: MachineSpec | None = None,
    ) -> Machine:
        """A machine with a root shell: in the state right after the first boot of its disk.

        The machine is restored from a snapshot of that state, which is made where there is none yet, so
        that tests on the same image boot it once. Tests share nothing: each has its own memory and disks.

        Args:
            target: an image of local storage by name or id (a disk is made of it once and cached), or the
                path of a disk file; the file is never written to.
            origin: the reference that a machine made from an image follows; by default the image's name.
            firmware: `bios`, `uefi` or `uefi-secure`.
            boot: wait for the shell; otherwise the machine is off.
            cold: boot, and make and use no snapshot; by default what the test's marker `bootc_cold` says.
            spec: memory, processors and so on; its disks and firmware are replaced.
        """
        path = target if isinstance(target, Path) else self._disk(target, origin)
        name = f"machine{len(self._machines) + 1}"
        chosen = replace(
            spec or MachineSpec(name=name), disks=(Disk.open(path),), firmware=Firmware(firmware)
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        system = target.name if isinstance(target, Path) else target
        record = self._stack.enter_context(open_record(self._folder, name, system))
        # What the machine was restored from may go only after the machine.
        holds = self._stack.enter_context(ExitStack())
        machine = self._stack.enter_context(
            Machine(
                chosen,
                acceleration=find_acceleration(self._accelerator),
                log=console_log(self._folder, name),
                record=record,
            )
        )
        self._machines.append(machine)
        if boot:
            self._bring_up(machine, holds, cold=self._cold if cold is None else cold)
        return machine

    def _bring_up(self, machine: Machine, holds: ExitStack, *, cold: bool) -> None:
        version = qemu_version(f"qemu-system-{machine.spec.architecture}")
        if cold or why_not(machine.spec, version) is not None:
            machine.boot()
        elif (snapshot := restore_or_make(machine, self._shelf)) is not None:
            holds.enter_context(snapshot)

    @staticmethod
    def _disk(image: str, origin: str | None) -> Path:
        target = ImageReference.parse_cli(origin) if origin else None
        return cached_disk(image, Silent(), target=target)
