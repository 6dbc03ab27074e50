"""A host that never saw a container: one file is copied to it, one command switches it to an image."""

from pathlib import Path

import pytest

from bootc_build.image.pyz import write_pyz
from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms import plain_host
from test_vms.example_os import Versions


@pytest.fixture
def plain_disk(base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The disk of such a host."""
    # libostree reads it when a sysroot is opened: an immutable directory could not be copied to a disk.
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    monkeypatch.setenv("OSTREE_SYSROOT_OPTS", "skip-sync")
    return plain_host.make_disk(base_image, tmp_path)


@pytest.fixture
def plain(
    plain_disk: Path, bootc_vm: MachineFactory, bootc_registry: Registry, tmp_path: Path
) -> Machine:
    """Such a host, with the one file copied to it, that reaches the registry."""
    machine = bootc_vm(plain_disk)
    machine.fail("command -v bootc")
    bootc_registry.configure(machine, "registry.example")
    write_pyz(tmp_path / "bootc.pyz")
    machine.copy_in(tmp_path / "bootc.pyz", "/root/bootc.pyz")
    return machine


@pytest.mark.long
def test_one_file_and_one_command_make_it_a_host_of_images(
    plain: Machine, versions: Versions, bootc_registry: Registry
) -> None:
    machine = plain
    assert plain_host.BRANCH in machine.succeed("ostree admin status")
    machine.succeed("echo kept > /etc/motd; useradd -m alice; echo treasure > /home/alice/notes")
    digest = bootc_registry.push(versions.one, "os:stable")
    said = machine.succeed(
        "python3 /root/bootc.pyz switch --no-signature-verification registry.example/os:stable",
        seconds=900,
    )
    assert "Queued for next boot: registry.example/os:stable" in said
    assert digest in said
    machine.reboot()
    assert machine.bootc.booted.version == "1"
    assert machine.bootc.booted.digest == digest
    assert machine.read("/etc/motd") == "kept\n"
    assert machine.succeed("cat /home/alice/notes") == "treasure\n"
    assert machine.failed_units() == []

    # From here on it is a host like any other, whose own agent and boot menu are the image's.
    bootc_registry.push(versions.two, "os:stable")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.bootc.booted.version == "2"
    assert machine.bootc.rollback_target.version == "1"
    assert machine.read("/etc/motd") == "kept\n"
    machine.succeed("ostree fsck --quiet", seconds=600)
    refs = machine.succeed("ostree refs")
    assert plain_host.BRANCH not in refs.split()


@pytest.mark.long
def test_the_branch_that_it_came_from_is_kept_if_that_is_wished(
    plain: Machine, versions: Versions, bootc_registry: Registry
) -> None:
    machine = plain
    bootc_registry.push(versions.one, "os:stable")
    command = "python3 /root/bootc.pyz switch --retain registry.example/os:stable"
    machine.succeed(command, seconds=900)
    machine.reboot()
    assert machine.bootc.booted.version == "1"
    assert plain_host.BRANCH in machine.succeed("ostree refs").split()
    # Its history is what can be gone back to, even without a deployment.
    machine.succeed("bootc internals cleanup", seconds=900)
    machine.succeed(f"ostree ls {plain_host.BRANCH} /usr/lib/os-release")
