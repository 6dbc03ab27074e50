"""The test that a user writes, as docs/testing.md shows it; only the base image is this project's own."""

from bootc_build.testing import Image
from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.registry import Registry
from test_vms.os_images import BASE

V1 = Image.build("Containerfile", build_args={"BASE": BASE, "REV": "1"})
V2 = Image.build("Containerfile", build_args={"BASE": BASE, "REV": "2"})


def test_upgrade_keeps_state_and_rolls_back(
    bootc_vm: MachineFactory, bootc_registry: Registry
) -> None:
    bootc_registry.push(V1, "os:stable")
    vm = bootc_vm(V1, origin="os:stable")
    assert vm.bootc.booted.image == V1
    vm.succeed("echo kept > /etc/motd; touch /var/home/kept")
    bootc_registry.push(V2, "os:stable")
    vm.succeed("bootc upgrade", seconds=600)
    assert vm.bootc.staged.image == V2
    assert vm.bootc.staged.image != V1
    vm.reboot()
    vm.wait_for_unit("multi-user.target")
    assert vm.bootc.booted.image == V2
    assert vm.read("/usr/share/rev") == "2\n"
    assert vm.read("/etc/motd") == "kept\n"
    vm.bootc.rollback()
    vm.reboot()
    assert vm.bootc.booted.image == V1
    assert vm.read("/usr/share/rev") == "1\n"
    vm.succeed("test -e /var/home/kept")
