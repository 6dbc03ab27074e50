"""The built-in checks, in their order, on one machine: each begins where the one before it ended.

A check that fails stops those that cannot be made without it; the others are made all the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.testing.factory import MachineFactory
from bootc_build.testing.image import Image
from bootc_build.testing.rehearsal.state import (
    differences,
    leave_later_state,
    leave_state,
    read_state,
)
from bootc_build.vm.guest_bootc import Deployment
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry

_FOLLOWS = "os:rehearsal"
_SETTLE_SECONDS = 300.0
_UPGRADE_SECONDS = 1800.0
_LOG_LINES = 10


class BrokenPromiseError(UserError):
    """The image does not do what every image has to."""


@dataclass
class Stage:
    """Where the rehearsal is.

    Attributes:
        factory: makes machines.
        registry: what they follow.
        machine: the machine, once it has booted.
        state: what its owner left, once he has.
        missing: title of the first step without which nothing further can be done.
    """

    factory: MachineFactory
    registry: Registry
    machine: Machine | None = None
    state: dict[str, str] = field(default_factory=dict)
    missing: str = ""

    @property
    def vm(self) -> Machine:
        """The machine; without it this check is not reached."""
        if self.machine is None or self.missing:
            pytest.skip(f"not reached, because of: {self.missing or 'it boots'}")
        return self.machine

    @contextmanager
    def needed(self, title: str) -> Iterator[None]:
        """A step without which nothing further can be done."""
        if self.missing:
            pytest.skip(f"not reached, because of: {self.missing}")
        self.missing = title
        yield
        self.missing = ""


@pytest.fixture(scope="module")
def stage(bootc_vm_module: MachineFactory, bootc_registry_module: Registry) -> Stage:
    """The one stage of all checks; because it asks for them, reports of each show its machine and registry."""
    return Stage(bootc_vm_module, bootc_registry_module)


def test_it_boots(stage: Stage, bootc_image: Image) -> None:
    with stage.needed("it boots"):
        machine = stage.factory(bootc_image, origin=_FOLLOWS)
        _settle(machine)
        stage.machine = machine


def test_no_unit_fails(stage: Stage) -> None:
    _no_unit_fails(stage.vm)


def test_bootc_status_shows_the_image(stage: Stage, bootc_image: Image) -> None:
    vm = stage.vm
    with stage.needed("bootc status shows the image"):
        _is(vm.bootc.booted, bootc_image, "runs")
        if vm.bootc.status().staged is not None:
            raise BrokenPromiseError("Something is staged right after the first boot.")


def test_an_upgrade_is_staged(stage: Stage, bootc_image: Image, bootc_next_image: Image) -> None:
    vm = stage.vm
    leave_state(vm)
    stage.state = read_state(vm)
    with stage.needed("an upgrade is staged"):
        stage.registry.push(bootc_next_image, _FOLLOWS)
        vm.bootc.upgrade(seconds=_UPGRADE_SECONDS)
        _is(vm.bootc.staged, bootc_next_image, "is staged")
        _is(vm.bootc.booted, bootc_image, "runs")


def test_the_upgrade_boots(stage: Stage, bootc_image: Image, bootc_next_image: Image) -> None:
    vm = stage.vm
    with stage.needed("the upgrade boots"):
        _reboot(vm, into=bootc_next_image, back_to=bootc_image)


def test_no_unit_fails_after_the_upgrade(stage: Stage) -> None:
    _no_unit_fails(stage.vm)


def test_what_belongs_to_the_machine_stays_through_the_upgrade(stage: Stage) -> None:
    _state_is_kept(stage)
    leave_later_state(stage.vm)
    stage.state |= read_state(stage.vm)


def test_there_is_nothing_more_to_upgrade_to(stage: Stage) -> None:
    stage.vm.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    if stage.vm.bootc.status().staged is not None:
        raise BrokenPromiseError("'bootc upgrade' stages the image that runs already.")


def test_a_rollback_boots_the_image_again(
    stage: Stage, bootc_image: Image, bootc_next_image: Image
) -> None:
    vm = stage.vm
    with stage.needed("a rollback boots the image again"):
        vm.bootc.rollback()
        _reboot(vm, into=bootc_image, back_to=bootc_next_image)


def test_no_unit_fails_after_the_rollback(stage: Stage) -> None:
    _no_unit_fails(stage.vm)


def test_what_belongs_to_the_machine_stays_through_the_rollback(stage: Stage) -> None:
    _state_is_kept(stage)


def test_a_second_upgrade_boots(stage: Stage, bootc_image: Image, bootc_next_image: Image) -> None:
    vm = stage.vm
    with stage.needed("a second upgrade boots"):
        vm.bootc.upgrade(seconds=_UPGRADE_SECONDS)
        _is(vm.bootc.staged, bootc_next_image, "is staged")
        _reboot(vm, into=bootc_next_image, back_to=bootc_image)


def test_what_belongs_to_the_machine_stays_through_the_second_upgrade(stage: Stage) -> None:
    _state_is_kept(stage)


def _settle(vm: Machine) -> None:
    """Wait until the boot has come to its end, however well."""
    state = vm.succeed("systemctl is-system-running --wait || true", seconds=_SETTLE_SECONDS)
    if state.strip() in {"initializing", "starting", "offline", "unknown"}:
        raise BrokenPromiseError(f"The boot does not come to its end: it is '{state.strip()}'.")


def _reboot(vm: Machine, *, into: Image, back_to: Image) -> None:
    vm.reboot()
    _settle(vm)
    _is(vm.bootc.booted, into, "runs after the restart")
    _is(vm.bootc.rollback_target, back_to, "is what a rollback goes back to")


def _is(deployment: Deployment, image: Image, role: str) -> None:
    if deployment.image != image:
        raise BrokenPromiseError(
            f"Not {image.name} but another image {role}: {deployment.image} ({deployment.digest})."
        )


def _no_unit_fails(vm: Machine) -> None:
    failed = vm.failed_units()
    if not failed:
        return
    log = vm.execute(f"systemctl status --no-pager -l -n {_LOG_LINES} {' '.join(failed)}").text
    units = f"the unit {failed[0]} has" if len(failed) == 1 else f"{', '.join(failed)} have"
    raise BrokenPromiseError(f"After the boot {units} failed.\n{log.rstrip()}")


def _state_is_kept(stage: Stage) -> None:
    if found := differences(stage.state, read_state(stage.vm)):
        raise BrokenPromiseError("\n".join(found))
