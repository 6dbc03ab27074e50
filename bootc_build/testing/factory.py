"""What the `bootc_vm` fixture is: brings machines up for one test, from snapshots where there are any."""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import pytest

from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Silent
from bootc_build.testing.artifacts import console_log, open_record
from bootc_build.testing.image import Image
from bootc_build.testing.limits import not_counted
from bootc_build.testing.options import chosen
from bootc_build.tools.sizes import parse_size
from bootc_build.vm.accel import Accelerator, find_acceleration
from bootc_build.vm.machine import Machine
from bootc_build.vm.network import PrivateNetwork
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.slots import Slots
from bootc_build.vm.snapshot import snapshot_shelf
from bootc_build.vm.spec import Disk, Firmware, MachineSpec
from bootc_build.vm.template import bring_up


@dataclass(frozen=True)
class Wishes:
    """What a test's marker `bootc_vm` says of its machines; None where it says nothing.

    Args:
        memory: in MiB.
        cpus: virtual processors.
        firmware: `bios`, `uefi` or `uefi-secure`.
        tpm: whether they have a TPM 2.0.
        machines: how many there are at once.
    """

    memory: int | None = None
    cpus: int | None = None
    firmware: str | None = None
    tpm: bool | None = None
    machines: int = 1

    @classmethod
    def of(cls, node: pytest.Item | pytest.Collector) -> Self:
        """A test's or a module's; the nearest marker has the last word on each.

        Raises:
            UsageError: a marker says something else.
        """
        said: dict[str, Any] = {}
        for marker in node.iter_markers("bootc_vm"):
            known = {field.name for field in fields(cls)}
            if marker.args or not known.issuperset(marker.kwargs):
                raise UsageError(
                    f"{node.nodeid}: the marker bootc_vm takes {', '.join(sorted(known))}.",
                    "Write it like bootc_vm(memory=2048).",
                )
            said = {**marker.kwargs, **said}
        return cls(**said)

    def applied_to(self, spec: MachineSpec, firmware: Firmware | str | None) -> MachineSpec:
        """A spec as it is wished for; firmware that the call names comes first."""
        return replace(
            spec,
            memory_mib=self.memory or spec.memory_mib,
            cpus=self.cpus or spec.cpus,
            tpm=spec.tpm if self.tpm is None else self.tpm,
            firmware=Firmware(firmware or self.firmware or spec.firmware),
        )


class MachineFactory:
    """Calling it brings a machine up.

    Args:
        stack: ends the machines.
        folder: for what they leave behind.
        node: the test, or the module whose tests share the machines.
        machines: every machine that is made is put in.

    Attributes:
        registries: gives those of the test.
    """

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        node: pytest.Item | pytest.Collector,
        machines: list[Machine],
    ) -> None:
        self.registries: Callable[[], list[Registry]] = list
        accelerator = chosen(node.config, "accel")
        slots = chosen(node.config, "slots")
        bound = chosen(node.config, "snapshot-cache")
        self._stack = stack
        self._folder = folder
        self._node = node
        self._machines = machines
        self._wishes = Wishes.of(node)
        self._allowed = [
            re.compile(pattern)
            for marker in node.iter_markers("bootc_allow_console")
            for pattern in marker.args
        ]
        self._cold = node.get_closest_marker("bootc_cold") is not None
        self._accelerator = Accelerator(accelerator) if accelerator else None
        self._slots = Slots(
            None if slots is None else _number("slots", slots, "number of machines")
        )
        self._shelf = snapshot_shelf(bound=None if bound is None else parse_size(bound))

    def __call__(
        self,
        target: Image | str | Path,
        *,
        origin: str | None = None,
        firmware: Firmware | str | None = None,
        boot: bool = True,
        cold: bool | None = None,
        networks: Sequence[PrivateNetwork] = (),
        spec: MachineSpec | None = None,
    ) -> Machine:
        """A machine with a root shell: in the state right after the first boot of its disk.

        The machine is restored from a snapshot of that state, which is made where there is none yet, so
        that tests on the same image boot it once. Tests share nothing: each has its own memory and disks.

        Args:
            target: an image, or its name or id in local storage (a disk is made of it once and cached), or
                the path of a disk file; the file is never written to.
            origin: the reference that a machine made from an image follows; by default the image's name. One
                without a host, such as "os:stable", is in the test's `bootc_registry`, and the machine is
                told where that is as soon as it is up.
            firmware: `bios`, `uefi` or `uefi-secure`; by default the marker's, or the spec's.
            boot: wait for the shell; otherwise the machine is off.
            cold: boot, and make and use no snapshot; by default what the test's marker `bootc_cold` says.
            networks: private networks that it has a card on, besides the one to the host (`bootc_network`).
            spec: what else it is made of; its disks are replaced.
        """
        registries = self._registries_of(origin)
        follows = f"{GUEST_NAME}/{origin}" if registries else origin
        with not_counted(self._node.config):
            if isinstance(target, Image):
                target = target.name
            path = target if isinstance(target, Path) else self._disk(target, follows)
        name = f"machine{len(self._machines) + 1}"
        made_of = replace(spec or self._usual_spec(name), disks=(Disk.open(path),))
        made_of = self._wishes.applied_to(made_of, firmware)
        if networks:
            made_of = replace(made_of, private_networks=tuple(networks))
        self._folder.mkdir(parents=True, exist_ok=True)
        system = target.name if isinstance(target, Path) else target
        record = self._stack.enter_context(open_record(self._folder, name, system))
        # Before the snapshot's lock: nobody waits for a slot while others wait for him.
        with not_counted(self._node.config):
            self._claim(made_of)
        # What the machine was restored from may go only after the machine.
        holds = self._stack.enter_context(ExitStack())
        machine = self._stack.enter_context(
            Machine(
                made_of,
                acceleration=find_acceleration(self._accelerator),
                log=console_log(self._folder, name),
                record=record,
            )
        )
        machine.expected_trouble.extend(self._allowed)
        self._machines.append(machine)
        if boot:
            self._bring_up(machine, holds, cold=self._cold if cold is None else cold)
            for registry in registries:
                registry.configure(machine, GUEST_NAME)
        return machine

    def _usual_spec(self, name: str) -> MachineSpec:
        """What machines are made of where their test says nothing else."""
        memory = chosen(self._node.config, "memory")
        return MachineSpec(
            name=name,
            memory_mib=MachineSpec.memory_mib
            if memory is None
            else _number("memory", memory, "number of MiB"),
            firmware=Firmware(chosen(self._node.config, "firmware") or MachineSpec.firmware),
        )

    def _registries_of(self, origin: str | None) -> list[Registry]:
        """The test's registries that a machine with this origin follows."""
        if origin is None or _has_host(origin):
            return []
        if not (registries := self.registries()):
            raise UsageError(
                f"The origin '{origin}' names no registry, and this test has none.",
                "Let the test take the fixture bootc_registry, or write the registry's host in front.",
            )
        return registries

    def _bring_up(self, machine: Machine, holds: ExitStack, *, cold: bool) -> None:
        with nullcontext() if cold else not_counted(self._node.config):
            snapshot = bring_up(machine, self._shelf, cold=cold)
        if snapshot is not None:
            holds.enter_context(snapshot)

    def _claim(self, spec: MachineSpec) -> None:
        """Have room for this machine, or with the first one for all that the marker tells of."""
        number = len(self._machines) + 1
        if 1 < number <= self._wishes.machines:
            return
        count = self._wishes.machines if number == 1 else 1
        self._stack.enter_context(
            self._slots.claimed(
                self._node.nodeid,
                cpus=count * spec.cpus,
                memory_mib=count * spec.memory_mib,
                machines=count,
            )
        )

    @staticmethod
    def _disk(image: str, origin: str | None) -> Path:
        target = ImageReference.parse_cli(origin) if origin else None
        return cached_disk(image, Silent(), target=target)


def _number(option: str, text: str, what: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--bootc-{option} {text} is no {what}.", "Give 1 or more.")
    return int(text)


def _has_host(reference: str) -> bool:
    """Whether an image's reference begins with a registry's host, as podman and docker decide it."""
    first, slash, _rest = reference.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first)
