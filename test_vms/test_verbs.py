"""The verbs that need a booted host, each at work on one: few boots, many steps."""

import json
import re
from typing import Any

import pytest
import yaml

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions

_TEN_STATUS = """
for i in 1 2 3 4 5 6 7 8 9 10; do
    bootc status --format=json > /run/status.$i && echo $i >> /run/answered &
done
wait
"""
_HOOK = """[Unit]
Description=Told when the status changes
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo changed >> /run/told'
"""


def _status(machine: Machine) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(machine.succeed("bootc status --format=json"))
    return document


def _arguments(machine: Machine) -> list[str]:
    return machine.read("/proc/cmdline").split()


@pytest.fixture
def machine(bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions) -> Machine:
    """Version 1, with version 2 in the registry that it follows."""
    bootc_registry.push(versions.two, "os:stable")
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    machine.write(
        "/etc/containers/registries.conf.d/test.conf",
        bootc_registry.guest_configuration("registry.example"),
    )
    return machine


def _check_status_formats(machine: Machine) -> None:
    document = _status(machine)
    assert yaml.safe_load(machine.succeed("bootc status | cat")) == document
    assert json.loads(machine.succeed("bootc status --json --format-version=0")) == document
    booted = json.loads(machine.succeed("bootc status --booted --json"))
    assert booted["status"]["booted"] == document["status"]["booted"]
    assert machine.fail("bootc status --format-version=2 2>&1").startswith("error: Unsupported")
    text = machine.succeed("bootc status --format=humanreadable -v")
    checksum = document["status"]["booted"]["ostree"]["checksum"]
    assert "● Booted image: " in text
    assert f"Commit: {checksum}" in text
    # Somebody who is not root may look, too.
    assert json.loads(machine.succeed("su nobody -s /bin/sh -c 'bootc status --json'")) == document


def _check_killed_upgrade(machine: Machine) -> None:
    """A killed upgrade leaves the system as it was; the next one finishes, and ten may look meanwhile."""
    before = _status(machine)
    machine.succeed("bootc upgrade > /run/upgrade.log 2>&1 & echo $! > /run/upgrade.pid")
    machine.wait_until_succeeds("grep -q Fetching /run/upgrade.log")
    machine.succeed("kill -9 $(cat /run/upgrade.pid)")
    assert _status(machine) == before
    machine.succeed("bootc upgrade > /run/upgrade.log 2>&1 & echo $! > /run/upgrade.pid")
    machine.succeed("bash -c 'rm -f /run/answered'")
    machine.write("/run/ten.sh", _TEN_STATUS)
    machine.succeed("sh /run/ten.sh", seconds=120)
    assert sorted(machine.read("/run/answered").split(), key=int) == [str(n) for n in range(1, 11)]
    # A second writer waits and says for whom, or comes after it.
    second = machine.succeed("bootc upgrade 2>&1", seconds=300)
    assert "Staged update present, not changed" in second
    machine.wait_until_succeeds("! kill -0 $(cat /run/upgrade.pid)")
    assert "Queued for next boot" in machine.read("/run/upgrade.log")
    assert _status(machine)["status"]["staged"]["image"]["version"] == "2"


def _check_usr_overlay(machine: Machine) -> None:
    machine.fail("touch /usr/probe")
    machine.succeed("bootc usr-overlay")
    machine.succeed("touch /usr/probe")
    overlay = {"accessMode": "readWrite", "persistence": "transient"}
    assert _status(machine)["status"]["usrOverlay"] == overlay
    assert "/usr overlay: transient, read/write" in machine.succeed(
        "bootc status --format=humanreadable"
    )


def _check_diffs(machine: Machine) -> None:
    machine.succeed("echo mine > /etc/motd; rm /etc/issue.net")
    changes = json.loads(machine.succeed("bootc config-diff --format=json"))
    found = {each["path"]: each for each in changes["differences"]}
    assert found["/etc/motd"]["atNextBoot"] in ("kept", "same")
    assert found["/etc/issue.net"]["atNextBoot"] == "staysRemoved"
    assert not [each for each in found.values() if each["atNextBoot"] == "conflict"]
    # libostree's own comparison names the same files.
    theirs = set(
        re.findall(r"^[MAD] +(\S+)$", machine.succeed("ostree admin config-diff"), re.MULTILINE)
    )
    assert {f"/etc/{path}" for path in theirs} == set(found)
    difference = json.loads(machine.succeed("bootc diff --format=json"))
    assert difference["packages"] == {"added": {}, "removed": {}, "changed": {}}
    assert "/usr/share/hello/version" in difference["files"]["changed"]
    assert difference["kernelArguments"] == {
        "added": ['verbs.quoted="a b"', "verbs.one=1"],
        "removed": [],
    }
    assert "Files: " in machine.succeed("bootc diff")


def test_verbs_work_through_two_boots(machine: Machine) -> None:
    machine.wait_for_unit("bootc-status-updated.path")
    machine.write("/etc/systemd/system/told.service", _HOOK)
    machine.succeed("systemctl daemon-reload; systemctl add-wants bootc-status-updated.target told")
    _check_status_formats(machine)
    assert machine.succeed("systemctl is-enabled bootc-fetch-apply-updates.timer || true") == (
        "disabled\n"
    )
    _check_killed_upgrade(machine)
    machine.wait_for_file("/run/told")

    quoted = """--append='verbs.quoted="a b"'"""
    queued = machine.succeed(f"bootc kargs {quoted} --append=verbs.one=1").split()
    assert queued[-1] == "verbs.one=1"
    assert "verbs.one=1" not in _arguments(machine)
    _check_diffs(machine)
    assert machine.succeed("bootc pin").startswith("Pinned deployment 1 ")
    _check_usr_overlay(machine)

    # The shutdown writes the menu, with what there is.
    machine.succeed("rm /etc/alternatives/awk")
    machine.reboot()
    status = _status(machine)["status"]
    assert "verbs.one=1" in _arguments(machine)
    assert '"verbs.quoted=a b"' in machine.read("/proc/cmdline")
    assert status["booted"]["image"]["version"] == "2"
    assert status["rollback"]["pinned"] is True
    assert status["usrOverlay"] is None
    machine.fail("test -e /usr/probe")
    assert machine.read("/etc/motd") == "mine\n"
    machine.fail("test -e /etc/issue.net")

    assert "is not pinned" in machine.succeed("bootc unpin booted")
    machine.succeed("bootc kargs --delete=verbs.one=1 --append=verbs.two=2")
    machine.succeed("bootc kargs --json | grep -q verbs.two")
    # The boot order is part of the specification; a rollback drops what is queued.
    machine.succeed("bootc status --format=yaml > /run/spec.yaml")
    machine.succeed("sed -i 's/bootOrder: default/bootOrder: rollback/' /run/spec.yaml")
    assert machine.succeed("bootc edit -f /run/spec.yaml") == "Next boot: rollback deployment\n"
    assert _status(machine)["status"]["staged"] is None
    machine.reboot()
    status = _status(machine)["status"]
    assert status["booted"]["image"]["version"] == "1"
    assert status["booted"]["pinned"] is True
    assert not {"verbs.one=1", "verbs.two=2"} & set(_arguments(machine))
    machine.succeed("ostree fsck --quiet", seconds=600)
