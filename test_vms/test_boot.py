"""What every boot has to give, looked at on one machine with Secure Boot."""

import pytest

from bootc_build.vm.machine import Machine

_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_the_signed_chain_boots_with_secure_boot_on(machine: Machine) -> None:
    # Four bytes of attributes, then the value.
    assert machine.execute(f"tail -c 1 {_SECURE_BOOT}").stdout == b"\x01"
    assert "integrity" in machine.read("/sys/kernel/security/lockdown").split("[")[1]


def test_no_unit_fails(machine: Machine) -> None:
    machine.wait_for_unit("multi-user.target")
    assert machine.failed_units() == []


@pytest.mark.parametrize("path", ["/new", "/usr/new", "/usr/local/new", "/app/new"])
def test_nothing_can_be_added_to_the_image(machine: Machine, path: str) -> None:
    assert "Read-only file system" in machine.fail(f"touch {path}")


@pytest.mark.parametrize("path", ["/app/file", "/usr/share/hello/version"])
def test_a_file_of_the_image_cannot_be_changed(machine: Machine, path: str) -> None:
    before = machine.read(path)
    assert "Read-only file system" in machine.fail(f"echo changed >> {path}")
    assert machine.read(path) == before


@pytest.mark.parametrize("path", ["/etc", "/var", "/home", "/srv", "/root", "/tmp", "/run"])
def test_what_belongs_to_the_machine_can_be_written(machine: Machine, path: str) -> None:
    assert machine.succeed(f"echo mine > {path}/mine && cat {path}/mine && rm {path}/mine") == (
        "mine\n"
    )


def test_every_object_of_the_image_is_intact(machine: Machine) -> None:
    machine.succeed("ostree fsck --quiet", seconds=600)


def test_the_service_of_the_example_has_run(machine: Machine) -> None:
    machine.wait_for_unit("hello.service")
