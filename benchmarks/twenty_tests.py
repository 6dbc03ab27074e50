"""Twenty small tests on one image, as a user would write them: what ``benchmarks.harness`` has pytest run."""

import os
import time
from collections.abc import Callable

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.spec import MachineSpec

IMAGE_VARIABLE = "BOOTC_BUILD_BENCH_IMAGE"
NAME_VARIABLE = "BOOTC_BUILD_BENCH_NAME"
COUNT = 20


@pytest.mark.parametrize("number", range(COUNT))
def test_small(
    bootc_vm: MachineFactory, record_property: Callable[[str, object], None], number: int
) -> None:
    """Write a file that no other test can have left, and read it."""
    machine = bootc_vm(os.environ[IMAGE_VARIABLE], spec=MachineSpec(name=os.environ[NAME_VARIABLE]))
    begun = time.monotonic()
    said = machine.succeed(
        f"test ! -e /var/number && echo {number} > /var/number && cat /var/number"
    )
    record_property("command", time.monotonic() - begun)
    assert said == f"{number}\n"  # noqa: S101 - a test
