"""A host that was upgraded many times keeps what its deployments need, what its owner set, and nothing else."""

import json
import re
from collections.abc import Iterator

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions
from test_vms.variants import Variants, variants

_KARGS = "usr/lib/bootc/kargs.d/20-test.toml"
# Version to the arguments of its file, of which none at all means that there is no file.
_ARGUMENTS = {
    "one": ("both=1", "old=1"),
    "two": ("both=1", "new=2", "value=2"),
    "three": ("both=1", "value=3"),
    "four": (),
}


@pytest.fixture(scope="module")
def maker() -> Iterator[Variants]:
    with variants() as made:
        yield made


@pytest.fixture(scope="module")
def images(versions: Versions, maker: Variants) -> dict[str, str]:
    """Version to image; each has a layer of its own upon the same system."""
    return {
        version: maker.add(
            versions.one,
            version,
            {
                _KARGS: f"kargs = {json.dumps(arguments)}\n" if arguments else "",
                "usr/share/many/version": version,
            },
        )
        for version, arguments in _ARGUMENTS.items()
    }


def _arguments(machine: Machine) -> list[str]:
    """Those of the running kernel that this test is about, in their order."""
    line = machine.read("/proc/cmdline")
    return re.findall(r"(?<!\S)(?:both|old|new|value|mine|theirs)=\S+", line)


def _refs(machine: Machine, kind: str) -> set[str]:
    refs = machine.succeed("ostree refs --list").split()
    return {ref for ref in refs if ref.startswith(f"ostree/container/{kind}/")}


def _kernels(machine: Machine) -> int:
    return len(machine.succeed("ls /boot/ostree").split())


def _deployments(machine: Machine) -> int:
    return int(machine.succeed("ls -d /ostree/deploy/default/deploy/*.[0-9] | wc -l"))


def _upgrade(machine: Machine, registry: Registry, image: str, version: str) -> None:
    registry.push(image, "os:stable")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.bootc.booted.version == version
    assert machine.read("/usr/share/many/version") == version


@pytest.mark.long
def test_only_what_deployments_need_is_left_and_arguments_follow_the_image(
    bootc_vm: MachineFactory, bootc_registry: Registry, images: dict[str, str]
) -> None:
    machine = bootc_vm(images["one"], origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    assert _arguments(machine) == ["both=1", "old=1"]
    layers = len(_refs(machine, "blob"))
    machine.succeed("bootc pin")

    # The owner adds one of his own and takes one of the image's away, in the queued deployment.
    bootc_registry.push(images["two"], "os:stable")
    machine.bootc.upgrade()
    machine.succeed("bootc kargs --append=mine=1 --append-if-missing=both=1 --delete=new=2")
    machine.reboot()
    assert machine.bootc.booted.version == "two"
    assert sorted(_arguments(machine)) == ["both=1", "mine=1", "value=2"]

    _upgrade(machine, bootc_registry, images["three"], "three")
    assert sorted(_arguments(machine)) == ["both=1", "mine=1", "value=3"]

    # The image has no arguments any more; what the owner set, and has queued only, stays.
    machine.succeed("bootc kargs --replace=value=3=own")
    _upgrade(machine, bootc_registry, images["four"], "four")
    assert sorted(_arguments(machine)) == ["mine=1", "value=own"]

    # Booted, rollback and the pinned one: three systems of one kernel each, that differ in one layer.
    assert "No update available" in machine.bootc.upgrade()
    document = json.loads(machine.succeed("bootc status --json"))["status"]
    assert document["rollback"]["image"]["version"] == "three"
    pinned = [each["image"]["version"] for each in document["otherDeployments"]]
    assert pinned == ["one"]
    assert _deployments(machine) == 3
    assert _kernels(machine) == 1, "the kernel is the same in all of them"
    assert len(_refs(machine, "image")) == 1
    # The pinned one was installed from plain layers, the others came compressed: the same under other digests.
    assert len(_refs(machine, "blob")) == layers + (layers + 1)
    objects = json.loads(machine.succeed("bootc internals fsck --format=json", seconds=900))
    assert objects["ok"] is True, objects

    # Unpinned, the first is gone, and so is what only it needed.
    others = document["otherDeployments"][0]["ostree"]["checksum"]
    machine.succeed("bootc unpin 2")
    machine.fail(f"ostree show {others}")
    assert _deployments(machine) == 2
    assert len(_refs(machine, "blob")) == layers + 1
    assert machine.failed_units() == []
