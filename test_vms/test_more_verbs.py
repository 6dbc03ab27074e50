"""Verbs that need a booted host and no second boot: edit with an editor, switches, marks; one machine."""

import json
from typing import Any

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions

_NEXT = "registry.example/os:next"
# An editor that puts a new file in place of the old one, as many do.
_EDITOR = f"""#!/bin/sh
sed 's,image: {FOLLOWS}$,image: {_NEXT},' "$1" > /run/edited && mv /run/edited "$1"
"""


def _status(machine: Machine) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(machine.succeed("bootc status --format=json"))
    return document


def _check_edit(machine: Machine) -> None:
    assert "Edit cancelled" in machine.succeed("EDITOR=true bootc edit")
    assert "failed with status 1" in machine.fail("EDITOR=false bootc edit 2>&1")
    assert _status(machine)["status"]["staged"] is None
    machine.write("/run/editor", _EDITOR)
    said = machine.succeed("EDITOR='sh /run/editor' bootc edit", seconds=900)
    assert f"Queued for next boot: {_NEXT}" in said
    document = _status(machine)
    assert document["spec"]["image"] == {"image": _NEXT, "transport": "registry"}
    assert document["status"]["staged"]["image"]["version"] == "2"


def _check_mutate_in_place(machine: Machine, registry: Registry) -> None:
    """For installers: what an upgrade fetches is another, and nothing is fetched now."""
    asked = len(registry.requests())
    machine.succeed("bootc switch --mutate-in-place registry.example/os:moved")
    assert len(registry.requests()) == asked
    booted = _status(machine)["status"]["booted"]["image"]
    assert booted["image"]["image"] == "registry.example/os:moved"
    assert booted["version"] == "1"


def _check_copy(machine: Machine, registry: Registry) -> None:
    """The booted system as an image of podman's storage, pushed from there, is a system again."""
    said = machine.succeed("bootc image copy-to-storage --target localhost/copy:1", seconds=900)
    assert said.startswith("Pushed: localhost/copy:1 ")
    storage = "containers-storage:localhost/copy:1"
    label = '{{ index .Labels "org.opencontainers.image.version" }}'
    assert machine.succeed(f"skopeo inspect --format '{label}' {storage}") == "1\n"
    copied = f"docker://{registry.guest_reference('os:copy')}"
    machine.succeed(f"skopeo copy -q --dest-tls-verify=false {storage} {copied}", seconds=900)
    machine.succeed("bootc switch registry.example/os:copy", seconds=900)
    booted, staged = (_status(machine)["status"][slot] for slot in ("booted", "staged"))
    assert staged["image"]["version"] == "1"
    changed = f"ostree diff {booted['ostree']['checksum']} {staged['ostree']['checksum']}"
    assert machine.succeed(changed) == ""
    assert machine.succeed(f"bootc image copy-to-storage --source docker://{FOLLOWS}", seconds=900)


@pytest.mark.long
def test_verbs_that_change_what_boots_next_and_are_undone(
    bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions
) -> None:
    bootc_registry.push(versions.two, "os:next")
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    _check_mutate_in_place(machine, bootc_registry)
    machine.succeed(f"bootc switch --mutate-in-place {FOLLOWS}")
    assert "already" not in machine.succeed("bootc pin")
    assert "already pinned" in machine.succeed("bootc pin booted")
    _check_edit(machine)
    assert "cannot be pinned" in machine.fail("bootc pin staged 2>&1")
    machine.succeed("bootc unpin booted")
    status = _status(machine)["status"]
    assert status["booted"]["pinned"] is False
    assert status["staged"]["image"]["version"] == "2"
    # Back to what is followed: the queued one is replaced.
    bootc_registry.push(versions.one, "os:stable")
    machine.succeed(f"bootc switch {FOLLOWS}", seconds=900)
    assert _status(machine)["spec"]["image"]["image"] == FOLLOWS
    assert json.loads(machine.succeed("bootc internals fsck --format=json", seconds=900))["ok"]
    assert machine.failed_units() == []


@pytest.mark.long
def test_the_system_leaves_as_an_image_and_comes_back(
    bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions
) -> None:
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    _check_copy(machine, bootc_registry)
