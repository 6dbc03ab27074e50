"""The main job: an upgrade from a registry, a reboot, a rollback; what the owner changed stays."""

import re
from collections.abc import Callable

import pytest

from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions


def _host_keys(machine: Machine) -> str:
    return machine.succeed("cat /etc/ssh/ssh_host_*_key.pub")


def _leave_state(machine: Machine) -> str:
    """What an owner does to a machine; the host keys."""
    machine.succeed("echo kept > /etc/motd; echo 'made here' > /etc/made-here; rm /etc/issue.net")
    machine.succeed("useradd -m alice; echo treasure > /home/alice/notes")
    machine.wait_until_succeeds("test -s /etc/ssh/ssh_host_ed25519_key.pub")
    return _host_keys(machine)


def _check_state(machine: Machine, host_keys: str) -> None:
    assert machine.read("/etc/motd") == "kept\n"
    assert machine.read("/etc/made-here") == "made here\n"
    machine.fail("test -e /etc/issue.net")
    assert machine.succeed("su alice -c 'cat /home/alice/notes'") == "treasure\n"
    assert _host_keys(machine) == host_keys


def _check_version(machine: Machine, version: str) -> None:
    assert machine.bootc.booted.version == version
    assert machine.read("/usr/share/hello/version") == f"{version}\n"
    assert machine.read("/app/file") == f"shipped in {version}\n"
    machine.wait_for_unit("multi-user.target")
    assert machine.failed_units() == []


def _shut_down_in_guest_seconds(machine: Machine) -> float:
    """Power off; what it took by the guest's own clock."""
    console = machine.console
    before = float(machine.succeed("cut -d' ' -f1 /proc/uptime"))
    machine.shutdown()
    stamps = [
        found[1]
        for line in console.history
        if (found := re.search(r"\[ *(\d+\.\d+)\] reboot: Power down", line.text))
    ]
    return float(stamps[-1]) - before


# With BIOS an upgrade is always run by the soak, and a fall-back by the tests of failing boots.
@pytest.mark.parametrize("firmware", [pytest.param("bios", marks=pytest.mark.long), "uefi"])
def test_an_upgrade_and_a_rollback_keep_state(
    firmware: str,
    boot: Callable[[str, str], Machine],
    bootc_registry: Registry,
    versions: Versions,
) -> None:
    machine = boot(versions.one, firmware)
    _check_version(machine, "1")
    assert machine.bootc.booted.image == FOLLOWS
    assert machine.bootc.status().rollback is None
    host_keys = _leave_state(machine)
    machine.write(
        "/etc/containers/registries.conf.d/test.conf",
        bootc_registry.guest_configuration("registry.example"),
    )

    digest = bootc_registry.push(versions.two, "os:stable")
    machine.bootc.upgrade()
    status = machine.bootc.status()
    assert status.booted is not None
    assert status.staged is not None
    assert (status.booted.version, status.staged.version) == ("1", "2")
    assert status.staged.digest == digest
    machine.reboot()
    _check_version(machine, "2")
    _check_state(machine, host_keys)
    assert machine.bootc.rollback_target.version == "1"
    assert "No update available" in machine.bootc.upgrade()

    machine.bootc.rollback()
    machine.reboot()
    _check_version(machine, "1")
    _check_state(machine, host_keys)
    assert machine.bootc.rollback_target.version == "2"
    assert _shut_down_in_guest_seconds(machine) < machine.seconds(10)
