"""What my operating system promises; README.md says how to run this."""

from bootc_build.testing import Image

V1 = Image.build(build_args={"REV": "1"})
V2 = Image.build(build_args={"REV": "2"})


def count(vm):
    vm.wait_for_unit("count-boots.service")
    return int(vm.read("/var/lib/count-boots/count"))


def test_the_first_boot_is_counted(bootc_vm):
    assert count(bootc_vm(V1)) == 1


def test_the_count_goes_on_through_upgrade_and_rollback(bootc_vm, bootc_registry):
    vm = bootc_vm(V1, origin="my-os:stable")
    bootc_registry.push(V2, "my-os:stable")
    vm.bootc.upgrade()
    vm.reboot()
    assert vm.bootc.booted.image == V2
    assert (vm.read("/usr/share/rev"), count(vm)) == ("2\n", 2)
    vm.bootc.rollback()
    vm.reboot()
    assert vm.bootc.booted.image == V1
    assert (vm.read("/usr/share/rev"), count(vm)) == ("1\n", 3)
