"""What belongs to the machine and what belongs to the image, on both sides of an upgrade, a switch and a rollback."""

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.testing.rehearsal.state import differences, leave_state, read_state
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms import os_images
from test_vms.example_os import FOLLOWS, Versions

_ELSEWHERE = "registry.example/team/other:next"
_OWNER = """
set -eu
cd /etc/app
echo mine > owner-changes
echo mine > both-change
echo mine > image-removes-owner-changes
echo mine > owner-adds
rm owner-removes
chmod 0600 owner-locks
echo 'mine' > /var/lib/app/first
"""
# A file of /etc/app -> what it says with the second revision, after the merge.
_MERGED = {
    "both-change": "mine",
    "image-adds": "new",
    "image-changes": "revision 2",
    "image-removes-owner-changes": "mine",
    "owner-adds": "mine",
    "owner-changes": "mine",
    # Its mode is the owner's, so all of it is: a file is merged as a whole.
    "owner-locks": "revision 1",
}
_BEFORE = {
    "both-change": "mine",
    "image-changes": "revision 1",
    "image-removes": "old",
    "image-removes-owner-changes": "mine",
    "owner-adds": "mine",
    "owner-changes": "mine",
    "owner-locks": "revision 1",
}


@pytest.fixture(scope="module")
def revisions(versions: Versions) -> Versions:
    """Two images that differ in what is merged."""
    containerfile = os_images.PROJECT / "test_vms/state/Containerfile"
    one, two = (
        os_images.build(
            f"state-{rev}", containerfile, arguments=[("EXAMPLE", versions.one), ("REV", rev)]
        )
        for rev in "12"
    )
    return Versions(one, two)


@pytest.fixture
def host(bootc_vm: MachineFactory, bootc_registry: Registry, revisions: Versions) -> Machine:
    """Revision 1, with what its owner did to it."""
    machine = bootc_vm(revisions.one, origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    machine.succeed(_OWNER)
    return machine


def _merged(host: Machine) -> dict[str, str]:
    said = host.succeed('cd /etc/app && for one in *; do echo "$one=$(cat $one)"; done')
    return dict(line.split("=", 1) for line in said.splitlines())


def _arguments(host: Machine) -> set[str]:
    return {one for one in host.read("/proc/cmdline").split() if one.startswith("state.")}


@pytest.mark.long
def test_an_upgrade_merges_etc_keeps_state_and_brings_its_kernel_arguments(
    host: Machine, bootc_registry: Registry, revisions: Versions
) -> None:
    leave_state(host)
    before = read_state(host)
    assert any("ssh_host" in name for name in before)
    assert "/etc/machine-id" in before
    assert "/home/rehearsal/notes" in before
    assert _merged(host) == _BEFORE
    assert _arguments(host) == {"state.rev=1"}
    host.succeed("bootc kargs --append=state.local=1")
    bootc_registry.push(revisions.two, "os:stable")
    host.bootc.upgrade()
    host.reboot()
    assert host.bootc.booted.version == "2"
    assert _merged(host) == _MERGED
    assert host.succeed("stat -c %a /etc/app/owner-locks") == "600\n"
    assert host.read("/var/lib/app/first") == "mine\n"
    assert differences(before, read_state(host)) == []
    assert _arguments(host) == {"state.rev=2", "state.local=1"}


@pytest.mark.long
def test_a_rollback_brings_back_etc_and_arguments_and_leaves_var(
    host: Machine, bootc_registry: Registry, revisions: Versions
) -> None:
    bootc_registry.push(revisions.two, "os:stable")
    host.bootc.upgrade()
    host.reboot()
    host.succeed("echo later > /etc/app/later; echo later > /var/lib/app/later")
    host.bootc.rollback()
    host.reboot()
    assert host.bootc.booted.version == "1"
    # The old system has its own /etc, as it was left; what was written since is with the new one.
    assert _merged(host) == _BEFORE
    assert host.read("/var/lib/app/later") == "later\n"
    assert _arguments(host) == {"state.rev=1"}
    host.bootc.rollback()
    host.reboot()
    assert _merged(host) == {**_MERGED, "later": "later"}
    assert _arguments(host) == {"state.rev=2"}


@pytest.mark.long
def test_a_switch_goes_to_another_name_and_a_rollback_comes_back_to_the_old_one(
    host: Machine, bootc_registry: Registry, revisions: Versions
) -> None:
    before = read_state(host)
    bootc_registry.push(revisions.two, "team/other:next")
    host.bootc.switch(_ELSEWHERE)
    staged = host.bootc.staged
    assert (staged.image, staged.version) == (_ELSEWHERE, "2")
    assert host.bootc.booted.image == FOLLOWS
    host.reboot()
    assert host.bootc.booted.image == _ELSEWHERE
    assert _merged(host) == _MERGED
    assert differences(before, read_state(host)) == []
    assert host.failed_units() == []
    # From now on it follows the other name, and only that.
    bootc_registry.push(revisions.one, "os:stable")
    host.bootc.upgrade()
    assert host.bootc.status().staged is None
    bootc_registry.push(revisions.one, "team/other:next")
    host.bootc.upgrade()
    assert host.bootc.staged.version == "1"
    host.bootc.rollback()
    host.reboot()
    assert host.bootc.booted.image == FOLLOWS
    assert host.bootc.rollback_target.image == _ELSEWHERE


@pytest.mark.long
def test_a_switch_to_what_is_not_there_changes_nothing(
    host: Machine, bootc_registry: Registry, revisions: Versions
) -> None:
    bootc_registry.push(revisions.two, "os:stable")
    before = host.bootc.status()
    said = host.fail("bootc switch registry.example/team/nothing:here", seconds=600)
    assert "registry.example/team/nothing:here" in said
    assert host.bootc.status() == before
    # It still follows what it followed.
    host.bootc.upgrade()
    assert host.bootc.staged.version == "2"
