"""The whole of it, as `bootc-build test --crash-points` does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.progress import Progress
from bootc_build.testing.crash_points.booting import BootResult, boot_states
from bootc_build.testing.crash_points.explore import Exploration, explore
from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.crash_points.record import Recording, record
from bootc_build.testing.crash_points.report import table, verdict, write_junit
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.spec import Firmware


@dataclass(frozen=True)
class Wanted:
    """What is explored.

    Args:
        image: in local storage.
        upgrade_to: another; by default the image with another initramfs, so that /boot changes as well.
        firmware: of the machines.
        recording: folder of a recording to explore again; nothing is recorded then.
        output: a new folder for the recording, the table and the JUnit file; None keeps nothing.
        junit: a JUnit XML file.
        samples: crash points within epochs, at most, for each transaction.
        seed: for drawing them.
        boots: how many distinct states of each transaction are booted at most.
    """

    image: str
    upgrade_to: str | None = None
    firmware: Firmware = Firmware.BIOS
    recording: Path | None = None
    output: Path | None = None
    junit: Path | None = None
    samples: int = 150
    seed: int = 0
    boots: int = 2


@dataclass(frozen=True)
class Found:
    """What came out.

    Args:
        explorations: one for each transaction.
        booted: results of the states that were booted.
    """

    explorations: Sequence[Exploration]
    booted: Sequence[BootResult]


def explore_crash_points(wanted: Wanted, progress: Progress) -> Found:
    """Record a machine, look at every crash point, boot distinct states, and save the report.

    Raises:
        UserError: an image is missing, the machine does not do what is asked of it, or there is no space.
    """
    parent = wanted.output or scratch_folder()
    parent.mkdir(parents=True, exist_ok=True)
    with emptied(parent) as scratch:
        recording = _recording(wanted, scratch, progress)
        log = recording.log()
        explorations, booted = [], []
        for transaction in recording.transactions:
            progress.step(f"Looking at the crash points of: {transaction.name}")
            found = explore(
                recording.base,
                log,
                transaction,
                samples=wanted.samples,
                seed=wanted.seed,
                scratch=scratch,
                kept=recording.kept,
                told=lambda done, of, states: progress.detail(
                    f"{done} of {of} crash points, {states} distinct states"
                ),
            )
            progress.step(verdict([found]))
            explorations.append(found)
            if wanted.boots:
                progress.step(f"Booting states of: {transaction.name}")
                booted += boot_states(recording, found, wanted.boots, scratch)
    result = Found(explorations, booted)
    _save(wanted, result)
    return result


def _recording(wanted: Wanted, scratch: Path, progress: Progress) -> Recording:
    if wanted.recording is not None:
        return Recording.open(wanted.recording)
    folder = (wanted.output or scratch) / "recording"
    folder.mkdir()
    if wanted.upgrade_to is not None:
        return record(
            wanted.image, wanted.upgrade_to, folder, firmware=wanted.firmware, progress=progress
        )
    with with_another_initramfs(wanted.image) as other:
        return record(wanted.image, other, folder, firmware=wanted.firmware, progress=progress)


def _save(wanted: Wanted, found: Found) -> None:
    if wanted.output is not None:
        (wanted.output / "crash-points.md").write_text(table(found.explorations, found.booted))
        write_junit(wanted.output / "crash-points.xml", found.explorations, found.booted)
    if wanted.junit is not None:
        write_junit(wanted.junit, found.explorations, found.booted)
