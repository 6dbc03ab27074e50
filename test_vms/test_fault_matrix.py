"""Phases and faults of what happens to a machine, with one oracle: old or new, whole, and the next try gets there."""

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.process import run
from bootc_build.testing.crash_points.explore import look_at_disk
from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.factory import MachineFactory
from bootc_build.testing.faults import registry_fault
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.errors import MachineError
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import GUEST_NAME, Registry
from test_vms import failing_boots, fault_cells, fault_matrix_page
from test_vms.example_os import FOLLOWS, Versions
from test_vms.fault_cells import Phase

_UPGRADE_SECONDS = 900.0
_GIVING_UP_SECONDS = 1200.0
_BOOT_SECONDS = 900.0
_SAMPLE = ("deploy", "power-cut")
_KEPT = "/var/lib/matrix/kept"


class BrokenPromiseError(AssertionError):
    """The oracle found a violation."""


@pytest.fixture(scope="module")
def next_version(versions: Versions) -> Iterator[str]:
    """A version with another kernel folder in /boot."""
    with with_another_initramfs(versions.two) as image:
        yield image


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A folder for disks that several cells begin with."""
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        yield Path(folder)


@pytest.fixture
def host_in(
    bootc_vm: MachineFactory,
    bootc_registry_module: Registry,
    versions: Versions,
    next_version: str,
    made: Path,
) -> Callable[[Phase], Machine]:
    """Makes a machine for a phase, whose registry offers the next version; its owner has left something."""
    for tag in ("stable", "next"):
        bootc_registry_module.push(next_version, f"os:{tag}")

    def make(phase: Phase) -> Machine:
        upgraded = made / "upgraded.qcow2"
        if phase.is_upgraded and upgraded.exists():
            return bootc_vm(upgraded)
        machine = bootc_vm(versions.one, origin=FOLLOWS)
        bootc_registry_module.configure(machine, GUEST_NAME)
        # By a name, which can be lost.
        machine.succeed("sed -i s/10.0.2.2/registry.guest/ $(grep -rl 10.0.2.2 /etc/containers)")
        machine.succeed("echo 10.0.2.2 registry.guest >> /etc/hosts")
        machine.succeed(f"mkdir -p $(dirname {_KEPT}); echo kept | tee {_KEPT} > /etc/kept; sync")
        if phase.is_upgraded:
            machine.bootc.upgrade(seconds=_UPGRADE_SECONDS)
            machine.reboot()
            machine.wait_for_unit("bootc-boot-complete.service")
            machine.succeed("sync")
            machine.copy_disk(made / "overlay.qcow2")
            machine.power_cut()
            run(["qemu-img", "convert", "-O", "qcow2", f"{made}/overlay.qcow2", str(upgraded)])
            return bootc_vm(upgraded)
        machine.succeed(phase.prepare, seconds=_UPGRADE_SECONDS)
        return machine

    return make


@dataclass(frozen=True)
class Before:
    """What runs, what the boot entries are, and all that a boot may start now."""

    booted: str
    entries: str
    may_start: Collection[str]


def _state(host: Machine, *, swaps: bool = False) -> Before:
    entries = host.succeed("cd /boot/loader/entries && sha256sum *")
    status = host.bootc.status()
    there = [status.booted, *([status.staged, status.rollback] if swaps else [])]
    may_start = {str(one.checksum) for one in there if one is not None}
    return Before(str(host.bootc.booted.checksum), entries, may_start)


def _promise(kept: object, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


def _check_disk(host: Machine, before: Before) -> None:
    """The disk as it is at this moment leads to a system that may be started, with what its owner has."""
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
        may = before.may_start
        _promise(started.commit in may, f"{started.commit} would be started, none of {may}")
        _promise("kept" in (started.etc or {}), "a file in /etc is lost")
    _promise("missing" not in seen.root.kept.values(), "a file in /var is lost")


def _kept_paths() -> tuple[str, ...]:
    return (f"/ostree/deploy/default{_KEPT}",)


def _check(host: Machine, before: Before, *, swaps: bool = False) -> None:
    now = _state(host)
    same = now.booted == before.booted and (swaps or now.entries == before.entries)
    _promise(same, "what runs or boots is not what it was")
    _promise(host.read("/etc/kept") == host.read(_KEPT) == "kept\n", "the owner's files changed")


def _finish(host: Machine, before: Before) -> None:
    """The fault is over: the next try gets there, and nothing of the failed one is left."""
    host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    _check(host, before)
    _promise(host.bootc.staged.version == "2", "the new version is not staged")
    host.succeed("ostree fsck --quiet", seconds=_UPGRADE_SECONDS)
    left = "find /sysroot/ostree/repo/tmp -maxdepth 1 -name 'staging-*' -newer /run/hold | wc -l"
    _promise(host.succeed(left).strip() == "0", "a failed attempt has left a half transaction")


def _finish_finalizing(host: Machine, _before: Before) -> None:
    """A restart leads to the new version, or to the old one, which gets there by the next try."""
    host.reboot(seconds=_BOOT_SECONDS)
    if host.bootc.booted.version != "2":
        host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
        host.reboot(seconds=_BOOT_SECONDS)
    _check_arrived(host, "2")


def _finish_rolling_back(host: Machine, _before: Before) -> None:
    if not host.bootc.status().rollback_queued:
        host.bootc.rollback()
    host.reboot(seconds=_BOOT_SECONDS)
    _check_arrived(host, "1")


def _finish_cleaning(host: Machine, before: Before) -> None:
    host.succeed("bootc internals cleanup", seconds=_UPGRADE_SECONDS)
    _finish(host, before)


def _check_arrived(host: Machine, version: str) -> None:
    _promise(host.bootc.booted.version == version, f"version {version} does not run")
    _promise(host.read("/etc/kept") == host.read(_KEPT) == "kept\n", "the owner's files changed")
    host.succeed("ostree fsck --quiet", seconds=_UPGRADE_SECONDS)


_FINISH = {
    "finalize": _finish_finalizing,
    "rollback": _finish_rolling_back,
    "clean-up": _finish_cleaning,
}


def _cells() -> list[object]:
    return [
        pytest.param(*cell, id="-".join(cell), marks=() if cell == _SAMPLE else pytest.mark.long)
        for cell in fault_cells.CELLS
    ]


@pytest.mark.parametrize(("phase", "name"), _cells())
def test_a_fault_leaves_old_or_new(
    phase: str, name: str, host_in: Callable[[Phase], Machine]
) -> None:
    fault, held = fault_cells.FAULTS[name], fault_cells.PHASES[phase]
    host = host_in(held)
    before = _state(host, swaps=held.swaps)
    ended = "cut off"
    if fault.trouble:
        host.expected_trouble.append(fault_cells.TROUBLE)
    try:
        fault_cells.hold(host, held)
        fault.strike(host, held)
        if fault.fatal:
            if name != "power-cut":
                fault_cells.go_on(host, held)
                # A shell that runs from such a disk need not live on.
                with suppress(MachineError):
                    host.execute("timeout 60 sync; true")
            _check_disk(host, before)
        else:
            fault_cells.go_on(host, held)
            ended = fault_cells.wait_for_end(host, held, _GIVING_UP_SECONDS)
            fault.end(host, held)
            _check(host, before, swaps=held.swaps)
            _check_disk(host, before)
            _FINISH.get(phase, _finish)(host, before)
    except BrokenPromiseError as broken:
        fault_matrix_page.note(phase, name, f"VIOLATED: {broken}", ended)
        raise
    fault_matrix_page.note(phase, name, "kept", ended)


@pytest.mark.long
def test_a_power_cut_during_a_first_boot_leaves_old_or_new(
    host_in: Callable[[Phase], Machine],
) -> None:
    phase, name = failing_boots.PHASE, "power-cut"
    host = host_in(fault_cells.PHASES["finalize"])
    before = _state(host, swaps=True)
    host.console.forget_unread()
    host.qemu.set_reboot_allowed(allowed=True)
    host.begin("systemctl reboot")
    try:
        for moment in fault_cells.FIRST_BOOT_MOMENTS:
            host.console.expect_exact([moment.encode()], timeout=host.seconds(_BOOT_SECONDS))
            _check_disk(host, before)
        host.power_cut()
        host.boot(seconds=_BOOT_SECONDS)
        host.wait_for_unit("bootc-boot-complete.service", seconds=_BOOT_SECONDS)
        _check_arrived(host, "2")
    except BrokenPromiseError as broken:
        fault_matrix_page.note(phase, name, f"VIOLATED: {broken}", "cut off")
        raise
    fault_matrix_page.note(phase, name, "kept", "cut off")


@pytest.mark.long
@pytest.mark.parametrize(("phase", "name"), fault_cells.REGISTRY_CELLS)
def test_a_failing_registry_leaves_old_or_new(
    phase: str, name: str, host_in: Callable[[Phase], Machine], bootc_registry_module: Registry
) -> None:
    host = host_in(fault_cells.PHASES[phase])
    before = _state(host)
    host.succeed("touch /run/hold")
    with registry_fault(bootc_registry_module, name) as fault:
        done = host.execute("bootc upgrade", seconds=_GIVING_UP_SECONDS)
        assert (done.status == 0) == fault.passes, done.error_text
    try:
        _check(host, before)
        _check_disk(host, before)
        _finish(host, before)
    except BrokenPromiseError as broken:
        fault_matrix_page.note(phase, name, f"VIOLATED: {broken}", f"status {done.status}")
        raise
    fault_matrix_page.note(phase, name, "kept", f"status {done.status}")
