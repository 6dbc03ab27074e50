"""The page with the results of the fault matrix, written by the runs themselves.

Results are kept as JSON beside the page, one for each cell, so that runs of parts of the matrix add up.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from test_vms import failing_boots

VARIABLE = "BOOTC_BUILD_FAULT_MATRIX"
_INTRODUCTION = """# Fault matrix

Written by `./dev fault-matrix`, which runs the cells and records what came of each: do not edit.

A cell is one fault that strikes while a machine is in one phase: of an upgrade (`fetch`, `import`, `deploy`, `stage`), of
what a shutdown does with it (`finalize`), of the new system's first boot, of a rollback, or of a clean-up. Every cell has
the same oracle:

- the machine boots the old system or the new one and nothing else. That is decided from its disk, looked at as for
  [crash points](crash-points.md), at the moment of the fault or after it;
- `bootc status` agrees with it, and the boot entries are as they were as long as nothing is finalized;
- what the owner has in `/etc` and `/var` is there;
- once the fault is over, the next try gets there: `bootc upgrade` stages the new system, a restart leads to it, or the
  rollback leads back. `ostree fsck` is clean, and nothing of a failed attempt is left in the repository. Cells after
  which this boot of the machine is lost (power cut, failing disk) are judged by the disk alone.

Since late on 2026-11-25 the look at the disk hashes the contents of all objects. The cells of `finalize`, `rollback` and
`clean-up`, those of `dns-gone`, and `stage` with `out-of-memory` and `write-errors` were judged so. The others of that day
were run before: there `ostree fsck` alone hashed contents, in cells that end with one, and nothing did in the others.

The first boot's cells are versions that do not come up (`test_vms/test_health.py`): the old system runs again after as
many tries as the version had, knows why, and refuses the version. Its power cut strikes four times, in the kernel, the
initramfs, at the start of systemd and at the login; then the machine boots the new system.

Three cells broke the oracle. `stage` with `out-of-memory` left the folder of a transaction, which the next `bootc upgrade`
did not remove; it does now, and the cell was run again. The first boot's `frozen` was once a systemd that crashed, so
that nobody fed the watchdog; but a crash closes the watchdog too, which stopped it, and the machine stood still. Images
restart after a crash now: that is the cell `crash`, and `frozen` is a kernel that stands still. The third is no longer
here: `fetch`, with the clock at 2 January 1970. The old system was whole, but files deleted at such a time look to
`e2fsck -f` like a damaged list of orphans, and it asked for a person. systemd never starts with a clock before its own
build, so `clock-lost` took that cell's place; [what is not promised](never-bricks.md#what-is-not-promised) has the rest.

"""


@dataclass(frozen=True)
class CellResult:
    """What came of one cell: "kept" or what was violated, when, and how the upgrade under the fault ended."""

    phase: str
    fault: str
    outcome: str
    upgrade: str
    date: str


def note(phase: str, fault: str, outcome: str, upgrade: str) -> None:
    """Add a result, if this run is one that writes the page."""
    target = os.environ.get(VARIABLE)
    if not target:
        return
    page = Path(target)
    store = page.with_suffix(".json")
    known = json.loads(store.read_text()) if store.exists() else []
    results = {(one["phase"], one["fault"]): CellResult(**one) for one in known}
    date = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    results[phase, fault] = CellResult(phase, fault, outcome, upgrade, date)
    # A cell that is no longer in the matrix has nothing to say about it.
    ordered = [results[key] for key in sorted(results) if key in planned_cells()]
    _replace(store, json.dumps([asdict(one) for one in ordered], indent=1) + "\n")
    _replace(page, render(ordered))


def planned_cells() -> set[tuple[str, str]]:
    """Phase and fault of every cell."""
    from test_vms.fault_cells import CELLS, REGISTRY_CELLS  # noqa: PLC0415 - they need the machine library

    boots = [*failing_boots.CELLS, (failing_boots.FROZEN.fault, "bios")]
    first_boots = {(failing_boots.PHASE, f"{fault} ({firmware})") for fault, firmware in boots}
    return {*CELLS, *REGISTRY_CELLS, *first_boots, (failing_boots.PHASE, "power-cut")}


def render(results: list[CellResult], *, planned: int | None = None) -> str:
    """The page."""
    planned = planned or len(planned_cells())
    bad = sum(one.outcome != "kept" for one in results)
    lines = [
        f"{len(results)} of {planned} cells tried, {bad} violations. What is not in the table was not tried. One cell again:",
        "",
        "```console",
        "$ ./dev fault-matrix 'test_vms/test_fault_matrix.py::test_a_fault_leaves_old_or_new[PHASE-FAULT]'",
        "```",
        "",
        (
            "Registry cells: `test_a_failing_registry_leaves_old_or_new[fetch-FAULT]`; first boots:"
            " `test_vms/test_health.py::test_every_kind_of_failing_boot_is_fallen_back_from[FAULT-FIRMWARE]`."
        ),
        "",
        "| phase | fault | outcome | how it ended under the fault | date |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.phase} | {one.fault} | {one.outcome} | {one.upgrade} | {one.date} |"
        for one in results
    ]
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
