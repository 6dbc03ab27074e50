"""A short run of the soak that `./dev soak` goes on with for hours."""

import pytest

from bootc_build.testing.crash_points.images import with_another_initramfs
from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions
from test_vms.soak import Soak, prepared


def test_a_step_of_the_soak_keeps_its_promises(
    bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions
) -> None:
    said: list[str] = []
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    with with_another_initramfs(versions.two) as other:
        images = (versions.one, other)
        soak = Soak(machine, bootc_registry, images, 15, said.append, cuts_a_phase=2, fault_share=1)
        soak.begin()
        soak.step()
    assert soak.cuts >= 2
    assert soak.faults == 1
    assert said[0].startswith("step 1: upgrade (kill-everything: ")


@pytest.mark.long
def test_a_rollback_and_more_keep_their_promises(versions: Versions) -> None:
    said: list[str] = []
    with prepared(versions.one, versions.two, 7, said.append) as soak:
        for _ in range(3):
            soak.step()
    assert len(said) == 3
