"""What the `bootc_vm` fixture is: boots machines for one test."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Silent
from bootc_build.testing.artifacts import console_log, open_record
from bootc_build.vm.accel import Accelerator, find_acceleration
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import Disk, Firmware, MachineSpec


class MachineFactory:
    """Calling it boots a machine.

    Args:
        stack: ends the machines.
        folder: for what they leave behind.
        accelerator: "kvm" or "tcg"; None for what works best.
        machines: every machine that is made is put in.
    """

    def __init__(
        self, stack: ExitStack, folder: Path, accelerator: str | None, machines: list[Machine]
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._accelerator = Accelerator(accelerator) if accelerator else None
        self._machines = machines

    def __call__(
        self,
        target: str | Path,
        *,
        origin: str | None = None,
        firmware: Firmware | str = Firmware.BIOS,
        boot: bool = True,
        spec: MachineSpec | None = None,
    ) -> Machine:
        """A machine with a root shell.

        Args:
            target: an image of local storage by name or id (a disk is made of it once and cached), or the
                path of a disk file; the file is never written to.
            origin: the reference that a machine made from an image follows; by default the image's name.
            firmware: `bios`, `uefi` or `uefi-secure`.
            boot: wait for the shell; otherwise the machine is off.
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
            machine.boot()
        return machine

    @staticmethod
    def _disk(image: str, origin: str | None) -> Path:
        target = ImageReference.parse_cli(origin) if origin else None
        return cached_disk(image, Silent(), target=target)
