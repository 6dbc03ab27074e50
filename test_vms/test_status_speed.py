"""`bootc status` is run often, also on slow hosts: it takes at most four times what ostree's own takes."""

from benchmarks.status import AT_MOST, compare
from bootc_build.vm.machine import Machine

_MORE_TIMES = 9


def test_status_takes_at_most_four_times_ostree_s_own(machine: Machine) -> None:
    machine.wait_for_unit("multi-user.target")
    found = compare(machine)
    for _ in range(_MORE_TIMES):
        if found.ratio <= AT_MOST:
            break
        # Where others use the computer, the longer of two commands finds a moment of its own less often. A status that
        # is too slow is so however often it is tried.
        found = found.best_with(compare(machine))
    print(found)  # noqa: T201 - the figure
    assert found.ratio <= AT_MOST
