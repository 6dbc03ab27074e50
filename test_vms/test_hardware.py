"""What hands do to a machine, seen from inside: a private network with its cables, a TPM."""

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.network import PrivateNetwork
from test_vms.tiny_guest import TinyGuest


@pytest.mark.bootc_vm(machines=2)
def test_two_machines_on_a_private_network_reach_each_other(
    bootc_vm: MachineFactory, bootc_network: PrivateNetwork, tiny_guest: TinyGuest
) -> None:
    machines = []
    for number in (1, 2):
        spec = tiny_guest.spec(f"tiny{number}")
        one = bootc_vm(tiny_guest.disk, networks=[bootc_network], spec=spec)
        one.succeed(f"ip address add 192.168.7.{number}/24 dev eth0 && ip link set eth0 up")
        machines.append(one)
    here, there = machines
    here.wait_until_succeeds("ping -c 1 -W 5 192.168.7.2")
    there.succeed("ping -c 1 -W 60 192.168.7.1")
    there.link(up=False, card=1)
    there.wait_until_succeeds("grep 0 /sys/class/net/eth0/carrier")
    here.fail("ping -c 1 -W 2 192.168.7.2")
    there.link(up=True, card=1)
    here.wait_until_succeeds("ping -c 1 -W 5 192.168.7.2")


def test_the_guest_has_a_tpm_in_which_the_boot_is_measured(
    bootc_vm: MachineFactory, tiny_guest: TinyGuest
) -> None:
    vm = bootc_vm(tiny_guest.disk, spec=tiny_guest.spec(tpm=True))
    vm.succeed("test -c /dev/tpm0")
    measured = vm.succeed("cat /sys/class/tpm/tpm0/pcr-sha256/0").strip()
    assert len(bytes.fromhex(measured)) == 32
    assert set(measured) != {"0"}
