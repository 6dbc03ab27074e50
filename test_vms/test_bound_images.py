"""Container images that an operating system binds: there before its first boot, gone after its last."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.tools.buildah import remove_image
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms import os_images
from test_vms.example_os import FOLLOWS, Versions
from test_vms.variants import variants

_APP = "registry.example/app:1"
# As upstream documents it: the additional store is where podman finds what came with the system.
_UNIT = f"""[Container]
Image={_APP}
GlobalArgs=--storage-opt=additionalimagestore=/usr/lib/bootc/storage
Pull=never
Exec=/bin/busybox echo the app runs
[Service]
Type=oneshot
RemainAfterExit=yes
"""
_FILES = {
    "usr/share/containers/systemd/app.container": _UNIT,
    "usr/lib/bootc/bound-images.d/app.container": "-> /usr/share/containers/systemd/app.container",
}


@dataclass(frozen=True)
class Images:
    """Ids in local storage: the application, a system without it, one that binds it, one more without."""

    app: str
    before: str
    bound: str
    after: str


@pytest.fixture(scope="module")
def images(versions: Versions) -> Iterator[Images]:
    before = os_images.build(
        "bound",
        os_images.PROJECT / "test_vms/bound/Containerfile",
        arguments=[("OS", versions.one)],
    )
    app = _build_app()
    with variants() as made:
        bound = made.add(before, "bound", _FILES)
        yield Images(app, before, bound, made.add(before, "after", {"usr/share/after": "1"}))
    remove_image(app)


def _build_app() -> str:
    def buildah(*arguments: str) -> str:
        command = ["buildah", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, "/bin/busybox", "/bin/")
    return buildah("commit", "--quiet", "--rm", container).removeprefix("sha256:")


def _stored(machine: Machine) -> list[str]:
    said = machine.succeed("bootc image cmd list --format json", seconds=300)
    return sorted(name for image in json.loads(said or "[]") for name in image.get("Names") or ())


def _upgrade(machine: Machine, registry: Registry, image: str) -> str:
    registry.push(image, "os:stable")
    return machine.succeed("bootc upgrade 2>&1", seconds=900)


@pytest.mark.long
@pytest.mark.bootc_vm(memory=2048)
@pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="needs busybox-static")
def test_bound_images_come_with_the_system_run_without_network_and_go(
    images: Images, bootc_vm: MachineFactory, bootc_registry: Registry
) -> None:
    machine = bootc_vm(images.before, origin=FOLLOWS)
    bootc_registry.configure(machine, "registry.example")
    # What cannot be had is no reason to boot a system without it.
    said = _upgrade_fails(machine, bootc_registry, images.bound)
    assert f"The system needs {_APP}" in said
    assert machine.bootc.status().staged is None

    bootc_registry.push(images.app, "app:1")
    said = _upgrade(machine, bootc_registry, images.bound)
    assert f"Fetching bound image {_APP}" in said
    assert _stored(machine) == [_APP]
    listed = json.loads(machine.succeed("bootc image list --format=json"))
    assert {"image_type": "unified", "image": _APP} in listed
    machine.reboot()
    assert machine.bootc.booted.version == "bound"
    asked = len(bootc_registry.requests())
    machine.succeed("systemctl start app", seconds=300)
    assert "the app runs" in machine.succeed("journalctl -u app -b")
    assert len(bootc_registry.requests()) == asked
    listed = json.loads(machine.succeed("bootc image list --type=logical --format=json"))
    assert listed == [{"image_type": "logical", "image": _APP}]

    # The rollback binds it still.
    _upgrade(machine, bootc_registry, images.after)
    machine.reboot()
    assert machine.bootc.booted.version == "after"
    assert _stored(machine) == [_APP]
    _upgrade(machine, bootc_registry, images.before)
    machine.reboot()
    assert "No update available" in machine.bootc.upgrade()
    assert _stored(machine) == []
    assert machine.failed_units() == []


def _upgrade_fails(machine: Machine, registry: Registry, image: str) -> str:
    registry.push(image, "os:stable")
    return machine.fail("bootc upgrade 2>&1", seconds=900)
