"""Programs that do not wait for the disk."""

import sys

import pytest

from bootc_build.onhost.process import run
from bootc_build.onhost.unsynced import _instructions

# The kernel refuses to sync a descriptor that is none; who is not asked does not refuse.
SYNC = "import os; os.fsync(9999)"
REFUSED = "Bad file descriptor"


def test_a_program_that_syncs_is_told_that_it_did() -> None:
    run([sys.executable, "-c", SYNC], synced=False)


def test_so_is_a_program_that_it_starts() -> None:
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SYNC!r}], check=True)"
    run([sys.executable, "-c", starts], synced=False)


@pytest.mark.parametrize("call", ["fsync(9999)", "fdatasync(9999)"])
def test_other_programs_sync(call: str) -> None:
    done = run([sys.executable, "-c", f"import os; os.{call}"], check=False)
    assert REFUSED in done.stderr


def test_what_is_no_syncing_fails_as_it_always_does() -> None:
    done = run([sys.executable, "-c", "import os; os.close(9999)"], check=False, synced=False)
    assert REFUSED in done.stderr


def test_a_machine_whose_calls_are_not_known_has_no_filter() -> None:
    assert _instructions("riscv64") == b""


def test_the_machines_whose_calls_are_known_have_one_each() -> None:
    filters = {_instructions(machine) for machine in ("x86_64", "aarch64")}
    assert {len(each) % 8 for each in filters} == {0}
    assert len(filters) == 2
