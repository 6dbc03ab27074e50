"""`bootc status` is run often, also on slow hosts: it takes at most four times what ostree's own takes."""

from benchmarks.status import AT_MOST, compare
from bootc_build.vm.machine import Machine


def test_status_takes_at_most_four_times_ostree_s_own(machine: Machine) -> None:
    machine.wait_for_unit("multi-user.target")
    found = compare(machine)
    print(found)  # noqa: T201 - the figure
    assert found.ratio <= AT_MOST
