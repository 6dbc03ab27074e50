"""A power cut leaves the old system or the new one, wherever it hits: tried on what a real machine writes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.progress import Silent
from bootc_build.testing.crash_points.booting import boot_states
from bootc_build.testing.crash_points.explore import Transaction, explore
from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.crash_points.points import epochs
from bootc_build.testing.crash_points.record import (
    FOLLOWS,
    Recorder,
    Recording,
    record,
)
from bootc_build.testing.crash_points.report import table, verdict
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.testing.factory import MachineFactory
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.spec import Firmware
from test_vms.example_os import Versions

_AT_LEAST = 200
_SAMPLED_FLUSHES = 20


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with emptied(scratch_folder()) as folder:
        yield folder


@pytest.fixture(scope="module")
def recording(versions: Versions, scratch: Path) -> Recording:
    """An upgrade with another kernel folder, the first boot, a rollback and a clean-up."""
    folder = scratch / "recording"
    folder.mkdir()
    with with_another_initramfs(versions.two) as other:
        return record(versions.one, other, folder, firmware=Firmware.BIOS, progress=Silent())


def test_the_last_flushes_before_a_restart_leave_the_old_system_or_the_new_one(
    bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions, scratch: Path
) -> None:
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry.push(versions.two, "os:stable")
    bootc_registry.configure(machine, GUEST_NAME)
    recorder = Recorder(machine, scratch)
    recorder.start()
    recorder.begin("staging")
    machine.bootc.upgrade(seconds=900)
    recorder.begin("shutdown")
    recorder.restart(then="first boot")
    recording = recorder.finish(())
    machine.power_cut()
    log = recording.log()
    staging, shutdown, first_boot = recording.transactions
    assert first_boot.stop > first_boot.start
    last = list(epochs(log.entries, staging.start, staging.stop))[-_SAMPLED_FLUSHES:]
    part = Transaction("the end of the upgrade", last[0].start, shutdown.stop)
    found = explore(recording.base, log, part, samples=10, seed=0, scratch=scratch)
    print(table([found]))  # noqa: T201 - the figures
    assert found.points > 2 * _SAMPLED_FLUSHES
    assert (found.unbootable, found.violations) == (0, 0)
    assert {state.verdict.boots for state in found.states} == {"old", "new"}


@pytest.mark.long
@pytest.mark.parametrize("name", ["upgrade", "first boot", "rollback", "clean-up"])
def test_no_crash_point_is_unbootable(name: str, recording: Recording, scratch: Path) -> None:
    [transaction] = [one for one in recording.transactions if one.name == name]
    log = recording.log()
    flushes = len(list(epochs(log.entries, transaction.start, transaction.stop)))
    # A third of the samples and more turn out to be equal to others.
    samples = max(60, 5 * (_AT_LEAST - flushes) // 2)
    found = explore(
        recording.base,
        log,
        transaction,
        samples=samples,
        seed=1,
        scratch=scratch,
        kept=recording.kept,
    )
    booted = boot_states(recording, found, 2, scratch)
    print(table([found], booted))  # noqa: T201 - the figures
    assert found.contents >= _AT_LEAST
    assert (found.unbootable, found.violations) == (0, 0), table([found])
    assert [one.problem for one in booted if not one.good] == []
    assert {state.verdict.boots for state in found.states} <= {"old", "new"}


@pytest.mark.long
def test_flushes_that_are_left_out_are_caught(recording: Recording, scratch: Path) -> None:
    log = recording.log().without_flushes()
    transaction = recording.transactions[0]
    found = explore(recording.base, log, transaction, samples=40, seed=1, scratch=scratch)
    print(verdict([found]))  # noqa: T201 - the figure
    assert found.unbootable > 0
