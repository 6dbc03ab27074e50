"""Phases and faults of an upgrade, with one oracle: old or new, whole, and the next try gets there."""

from collections.abc import Iterator

import pytest

from bootc_build.onhost.process import run
from bootc_build.testing.crash_points.explore import look_at_disk
from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.factory import MachineFactory
from bootc_build.testing.faults import registry_fault
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import GUEST_NAME, Registry
from test_vms import fault_cells, fault_matrix_page
from test_vms.example_os import FOLLOWS, Versions

_UPGRADE_SECONDS = 900.0
_GIVING_UP_SECONDS = 1200.0
_KEPT = "/var/lib/matrix/kept"


class BrokenPromiseError(AssertionError):
    """The oracle found a violation."""


@pytest.fixture(scope="module")
def next_version(versions: Versions) -> Iterator[str]:
    """A version with another kernel folder in /boot."""
    with with_another_initramfs(versions.two) as image:
        yield image


@pytest.fixture
def host(
    bootc_vm: MachineFactory,
    bootc_registry_module: Registry,
    versions: Versions,
    next_version: str,
) -> Machine:
    """A machine of version 1 whose registry offers the next; its owner has left something."""
    bootc_registry_module.push(next_version, "os:stable")
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry_module.configure(machine, GUEST_NAME)
    machine.succeed(f"mkdir -p $(dirname {_KEPT}); echo kept | tee {_KEPT} > /etc/kept; sync")
    return machine


def _state(host: Machine) -> tuple[str, str]:
    entries = host.succeed("cd /boot/loader/entries && sha256sum *")
    return str(host.bootc.booted.checksum), entries


def _promise(kept: object, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


def _check_disk(host: Machine, booted: str) -> None:
    """The disk as it is at this moment leads to the system that runs, with what its owner has."""
    with emptied(scratch_folder()) as folder:
        host.copy_disk(folder / "disk.qcow2")
        run(["qemu-img", "convert", "-O", "raw", f"{folder}/disk.qcow2", f"{folder}/disk.raw"])
        seen = look_at_disk(folder / "disk.raw", folder, _kept_paths())
    problems = [*seen.loader.problems, *seen.boot.problems, *seen.damage]
    _promise(not problems, f"the disk: {problems[:3]}")
    _promise(seen.started, "the boot loader starts nothing")
    for started in seen.started:
        _promise(started is not None, "the boot loader starts what is not there")
        assert started is not None
        _promise(not started.problems, f"the deployment: {started.problems[:3]}")
        _promise(started.commit == booted, f"{started.commit} would be started, not {booted}")
        _promise("kept" in (started.etc or {}), "a file in /etc is lost")
    _promise("missing" not in seen.root.kept.values(), "a file in /var is lost")


def _kept_paths() -> tuple[str, ...]:
    return (f"/ostree/deploy/default{_KEPT}",)


def _check(host: Machine, before: tuple[str, str]) -> None:
    _promise(_state(host) == before, "what runs or boots is not what it was")
    _promise(host.read("/etc/kept") == host.read(_KEPT) == "kept\n", "the owner's files changed")


def _finish(host: Machine, before: tuple[str, str]) -> None:
    """The fault is over: the next try gets there, and nothing of the failed one is left."""
    host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    _check(host, before)
    _promise(host.bootc.staged.version == "2", "the new version is not staged")
    host.succeed("ostree fsck --quiet", seconds=_UPGRADE_SECONDS)
    left = "find /sysroot/ostree/repo/tmp -maxdepth 1 -name 'staging-*' -newer /run/hold | wc -l"
    _promise(host.succeed(left).strip() == "0", "a failed attempt has left a half transaction")


def _cells() -> list[object]:
    return [pytest.param(*cell, id="-".join(cell)) for cell in fault_cells.CELLS]


@pytest.mark.long
@pytest.mark.parametrize(("phase", "name"), _cells())
def test_a_fault_leaves_old_or_new(phase: str, name: str, host: Machine) -> None:
    fault = fault_cells.FAULTS[name]
    before = _state(host)
    ended = "cut off"
    if fault.trouble:
        host.expected_trouble.append(fault_cells.TROUBLE)
    try:
        fault_cells.hold(host, phase)
        fault.strike(host)
        if fault.fatal:
            if name != "power-cut":
                fault_cells.go_on(host)
                host.execute("timeout 60 sync; true")
            _check_disk(host, before[0])
        else:
            fault_cells.go_on(host)
            ended = fault_cells.wait_for_end(host, _GIVING_UP_SECONDS)
            fault.end(host)
            _check(host, before)
            _check_disk(host, before[0])
            _finish(host, before)
    except BrokenPromiseError as broken:
        fault_matrix_page.note(phase, name, f"VIOLATED: {broken}", ended)
        raise
    fault_matrix_page.note(phase, name, "kept", ended)


@pytest.mark.long
@pytest.mark.parametrize(("phase", "name"), fault_cells.REGISTRY_CELLS)
def test_a_failing_registry_leaves_old_or_new(
    phase: str, name: str, host: Machine, bootc_registry_module: Registry
) -> None:
    before = _state(host)
    host.succeed("touch /run/hold")
    with registry_fault(bootc_registry_module, name) as fault:
        done = host.execute("bootc upgrade", seconds=_GIVING_UP_SECONDS)
        assert (done.status == 0) == fault.passes, done.error_text
    try:
        _check(host, before)
        _check_disk(host, before[0])
        _finish(host, before)
    except BrokenPromiseError as broken:
        fault_matrix_page.note(phase, name, f"VIOLATED: {broken}", f"status {done.status}")
        raise
    fault_matrix_page.note(phase, name, "kept", f"status {done.status}")
