"""What hands do to a machine, seen from inside: cables, a private network, a TPM, the screen, the power button."""

import struct
import zlib
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.network import PrivateNetwork
from test_vms.example_os import Versions
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


def test_the_guest_sees_its_cable(machine: Machine) -> None:
    card = machine.succeed("ls /sys/class/net | grep -v '^lo$'").strip()
    machine.succeed(f"grep 1 /sys/class/net/{card}/carrier")
    with machine.link_down():
        machine.wait_until_succeeds(f"grep 0 /sys/class/net/{card}/carrier")
    machine.wait_until_succeeds(f"grep 1 /sys/class/net/{card}/carrier")


def test_the_screen_is_a_picture(machine: Machine, tmp_path: Path) -> None:
    picture = machine.screenshot(tmp_path / "screen.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    # The first chunk: length, "IHDR", width and height, five bytes more, checksum.
    width, height = struct.unpack(">II", picture[16:24])
    assert width >= 640
    assert height >= 400
    assert zlib.crc32(picture[12:29]) == int.from_bytes(picture[29:33], "big")


def test_a_unit_that_fails_is_bad_health(machine: Machine) -> None:
    assert machine.is_health_ok()
    machine.execute("systemd-run --wait --unit=sick false")
    try:
        assert not machine.is_health_ok()
        assert machine.failed_units() == ["sick.service"]
    finally:
        machine.succeed("systemctl reset-failed sick")
    assert machine.is_health_ok()


@pytest.mark.long
def test_the_power_button_ends_a_guest_in_good_order(
    bootc_vm: MachineFactory, versions: Versions
) -> None:
    vm = bootc_vm(versions.one)
    assert vm.soft_kill()
    assert vm.record is not None
    assert "guest-shutdown" in vm.record.monitor_path.read_text()
