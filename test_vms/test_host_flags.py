"""Flags of the verbs that change a host, and hosts that others have changed: few boots, many steps."""

import json
from typing import Any

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions

_LAYERED = "\n[packages]\nrequested=vim;\n"
# The shell need not live to see the end of a command that reboots.
_BESIDE = "systemd-run --quiet "
_WRITABLE = "mount -o remount,rw /sysroot"


@pytest.fixture
def machine(bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions) -> Machine:
    """Version 1, with version 2 in the registry that it follows."""
    bootc_registry.push(versions.two, "os:stable")
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    return machine


def _status(machine: Machine) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(machine.succeed("bootc status --format=json"))
    status: dict[str, Any] = document["status"]
    return status


def _origin_of(machine: Machine, slot: str) -> str:
    where = _status(machine)[slot]["ostree"]
    name = f"{where['checksum']}.{where['deploySerial']}.origin"
    return f"/sysroot/ostree/deploy/{where['stateroot']}/deploy/{name}"


def _change_as_rpm_ostree(machine: Machine, origin: str) -> None:
    machine.write("/run/layered", _LAYERED)
    machine.succeed(f"cp {origin} /run/origin.before")
    machine.succeed(f"unshare -m sh -c '{_WRITABLE} && cat /run/layered >> {origin}'")


def _reset(machine: Machine, origin: str) -> None:
    machine.succeed(f"unshare -m sh -c '{_WRITABLE} && cat /run/origin.before > {origin}'")


def _check_refused(machine: Machine, registry: Registry) -> None:
    asked = len(registry.requests())
    for options in ("", " --check", " --download-only"):
        said = machine.fail(f"bootc upgrade{options} 2>&1")
        assert "rpm-ostree reset" in said
        assert "Traceback" not in said
    assert len(registry.requests()) == asked, "nothing was even asked for"


def test_a_host_that_rpm_ostree_changed_is_shown_and_not_upgraded(
    machine: Machine, bootc_registry: Registry
) -> None:
    origin = _origin_of(machine, "booted")
    _change_as_rpm_ostree(machine, origin)
    status = _status(machine)
    assert status["booted"]["incompatible"] is True
    assert status["booted"]["image"] is None
    assert "Incompatible: " in machine.succeed("bootc status --format=humanreadable")
    _check_refused(machine, bootc_registry)
    assert _status(machine)["staged"] is None
    _reset(machine, origin)
    assert _status(machine)["booted"]["incompatible"] is False

    # What is only queued counts, too.
    machine.bootc.upgrade()
    queued = _origin_of(machine, "staged")
    _change_as_rpm_ostree(machine, queued)
    assert _status(machine)["staged"]["incompatible"] is True
    _check_refused(machine, bootc_registry)
    _reset(machine, queued)
    assert "Staged update present, not changed" in machine.bootc.upgrade()


def _check_download_only(machine: Machine, registry: Registry) -> None:
    """What is only downloaded is not booted by chance; released, it is, without being fetched again."""
    said = machine.succeed("bootc upgrade --check")
    assert "Update available for: docker://registry.example/os:stable" in said
    assert _status(machine)["booted"]["cachedUpdate"]["version"] == "2"
    assert registry.requests("layer") == ()
    assert "No staged deployment" in machine.fail("bootc upgrade --from-downloaded 2>&1")
    machine.succeed("bootc upgrade --download-only", seconds=600)
    assert _status(machine)["staged"]["downloadOnly"] is True
    machine.reboot()
    assert machine.bootc.booted.version == "1"
    fetched = len(registry.requests("layer"))
    machine.succeed("bootc upgrade --download-only", seconds=600)
    assert len(registry.requests("layer")) == fetched
    said = machine.succeed("bootc upgrade --from-downloaded")
    assert said == "Staged deployment will now be applied on reboot\n"
    assert _status(machine)["staged"]["downloadOnly"] is False


def _check_looking_on(machine: Machine) -> None:
    """The verbs that change nothing, and an overlay that nobody may write to."""
    images = json.loads(machine.succeed("bootc image list --format=json"))
    assert {"image_type": "host", "image": "docker://registry.example/os:stable"} in images
    document = json.loads(machine.succeed("bootc internals fsck --format=json", seconds=600))
    assert document["ok"] is True, document
    machine.succeed("bootc internals cleanup", seconds=300)
    assert _status(machine)["staged"]["image"]["version"] == "2"
    machine.succeed("bootc usr-overlay --read-only")
    overlay = {"accessMode": "readOnly", "persistence": "transient"}
    assert _status(machine)["usrOverlay"] == overlay
    assert "Read-only file system" in machine.fail("touch /usr/probe 2>&1")


def _check_switch(machine: Machine, registry: Registry, versions: Versions) -> None:
    """To a folder of the machine's own disk and back: no layer goes over the network."""
    copy = "skopeo copy --quiet docker://registry.example/os:stable oci:/var/tmp/os:one"
    registry.push(versions.one, "os:stable")
    machine.succeed(copy, seconds=900)
    fetched = len(registry.requests("layer"))
    said = machine.succeed("bootc switch --transport=oci /var/tmp/os:one", seconds=600)
    assert "Queued for next boot: oci:/var/tmp/os:one" in said
    image = _status(machine)["staged"]["image"]
    assert image["image"] == {"image": "/var/tmp/os:one", "transport": "oci"}
    again = machine.succeed("bootc switch --transport=oci /var/tmp/os:one")
    assert again == "Image specification is unchanged.\n"
    pipe = "3>&1 > /dev/null | cat > /run/progress"
    machine.succeed(f"bootc switch --quiet --progress-fd=3 {FOLLOWS} {pipe}", seconds=600)
    lines = [json.loads(line) for line in machine.read("/run/progress").splitlines()]
    assert lines[0] == {"type": "Start", "version": "0.1.0"}
    assert {line["type"] for line in lines} >= {"ProgressSteps"}
    assert _status(machine)["staged"]["image"]["image"]["image"] == FOLLOWS
    assert len(registry.requests("layer")) == fetched


@pytest.mark.long
def test_flags_do_what_they_say_through_four_boots(
    machine: Machine, bootc_registry: Registry, versions: Versions
) -> None:
    _check_download_only(machine, bootc_registry)
    _check_looking_on(machine)
    with machine.expect_reboot():
        machine.succeed(_BESIDE + "bootc upgrade --from-downloaded --apply")
    assert machine.bootc.booted.version == "2"
    assert "No changes in: " in machine.succeed("bootc upgrade --check")
    with machine.expect_reboot():
        machine.succeed(_BESIDE + "bootc rollback --apply")
    assert machine.bootc.booted.version == "1"
    bootc_registry.push(versions.two, "os:next")
    machine.succeed("bootc upgrade --tag=next", seconds=600)
    assert _status(machine)["staged"]["image"]["image"]["image"] == "registry.example/os:next"
    _check_switch(machine, bootc_registry, versions)
    assert machine.failed_units() == []
