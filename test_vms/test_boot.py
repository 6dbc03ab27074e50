"""What every boot has to give, looked at on one machine with Secure Boot."""

import random
from pathlib import Path

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


def test_files_of_any_bytes_go_in_and_out(machine: Machine, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(20_000)  # noqa: S311 - any bytes do
    (tmp_path / "program").write_bytes(content)
    (tmp_path / "program").chmod(0o755)
    machine.copy_in(tmp_path / "program", "/var/tmp/program")
    machine.copy_out("/var/tmp/program", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    machine.succeed("test -x /var/tmp/program")


def test_a_storm_of_kernel_messages_changes_no_byte(machine: Machine) -> None:
    machine.succeed("sysctl -q kernel.printk_devkmsg=on")
    machine.succeed(
        "setsid sh -c 'for i in $(seq 400); do echo \"<1>storm $i\"; done > /dev/kmsg' >/dev/null 2>&1 &"
    )
    expected = "".join(f"{number}\n" for number in range(1, 4001))
    assert machine.succeed("seq 4000") == expected
    machine.wait_for_console_text("storm 400")
