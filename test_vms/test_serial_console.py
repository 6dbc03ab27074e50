"""Everything over ttyS0, with real kernels: logins, the emergency shell, GRUB's menu, a storm of kernel messages."""

import random
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.spec import Login, MachineSpec
from test_vms import os_images
from test_vms.example_os import FOLLOWS, Versions
from test_vms.tiny_guest import TinyGuest

_STORM = "while :; do echo '<1>storm of kernel messages' > /dev/kmsg; done"
_BINARY = random.Random(3).randbytes(12_000)  # noqa: S311 - any bytes do


@pytest.fixture
def guest(bootc_vm: MachineFactory, tiny_guest: TinyGuest) -> Machine:
    """A guest that knows no credentials: its account has logged in."""
    return bootc_vm(tiny_guest.disk, spec=tiny_guest.spec())


def test_an_account_logs_in_where_credentials_are_not_known(guest: Machine) -> None:
    assert not guest.has_lane
    assert any("tiny login: root" in line.text for line in guest.console.history)
    assert guest.succeed("id -un; tty < /dev/ttyS0") == "root\n/dev/ttyS0\n"


def test_a_storm_of_kernel_messages_harms_no_byte(guest: Machine, tmp_path: Path) -> None:
    guest.succeed(f'setsid sh -c "{_STORM}" > /dev/null 2>&1 & echo $! > /run/storm')
    guest.wait_for_console_text("storm of kernel messages")
    (tmp_path / "binary").write_bytes(_BINARY)
    guest.copy_in(tmp_path / "binary", "/run/binary")
    done = guest.execute("cat /run/binary; seq 300 >&2; exit 3")
    assert (done.status, done.stdout) == (3, _BINARY)
    assert done.error_text == "".join(f"{number}\n" for number in range(1, 301))
    # It was not over before.
    guest.succeed("kill $(cat /run/storm)")


@pytest.mark.long
def test_the_emergency_shell_takes_commands(bootc_vm: MachineFactory, versions: Versions) -> None:
    machine = bootc_vm(versions.one, spec=MachineSpec(login=Login("root", "a word")))
    machine.succeed("echo 'root:a word' | chpasswd")
    with machine.trouble_allowed("emergency mode"), machine.expect_new_shell():
        machine.begin("systemctl --no-block emergency")
    assert not machine.has_lane
    assert machine.succeed("systemctl is-active emergency.service").strip() == "active"
    assert machine.execute("systemctl is-active multi-user.target").status != 0
    machine.succeed("echo mended > /etc/mended; sync")
    machine.reboot()
    assert machine.read("/etc/mended") == "mended\n"


@pytest.mark.long
def test_the_menu_of_an_upgraded_machine_starts_the_old_version_once(
    bootc_vm: MachineFactory, bootc_registry: Registry, versions: Versions
) -> None:
    machine = bootc_vm(versions.one, origin=FOLLOWS)
    bootc_registry.push(versions.two, "os:stable")
    bootc_registry.configure(machine, GUEST_NAME)
    machine.bootc.upgrade()
    machine.reboot()
    machine.wait_for_unit("bootc-boot-complete.service")
    assert machine.bootc.booted.version == "2"
    machine.reboot(menu_entry=2)
    assert machine.bootc.booted.version == "1"
    # Nothing else has changed.
    machine.reboot()
    assert machine.bootc.booted.version == "2"


@pytest.mark.long
def test_debian_12_upgrades_and_goes_back_by_its_serial_console_alone(
    bootc_vm: MachineFactory, bootc_registry: Registry
) -> None:
    base = os_images.older_base_image()
    one, two = (
        os_images.build(
            f"older-{number}",
            os_images.PROJECT / "test_vms/older/Containerfile",
            arguments=[("BASE", base), ("VERSION", number)],
        )
        for number in "12"
    )
    machine = bootc_vm(one, origin=FOLLOWS, spec=MachineSpec(login=Login("root", "a word")))
    assert not machine.has_lane
    assert "VERSION_CODENAME=bookworm" in machine.read("/etc/os-release")
    assert machine.failed_units() == []
    bootc_registry.push(two, "os:stable")
    bootc_registry.configure(machine, GUEST_NAME)
    machine.write("/etc/kept", "kept\n")
    machine.write("/var/lib/kept", "kept\n")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.read("/usr/share/version") == "2\n"
    assert machine.read("/etc/kept") == machine.read("/var/lib/kept") == "kept\n"
    machine.bootc.rollback()
    machine.reboot()
    assert machine.read("/usr/share/version") == "1\n"
    assert machine.read("/etc/kept") == machine.read("/var/lib/kept") == "kept\n"
