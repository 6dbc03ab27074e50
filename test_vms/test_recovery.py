"""What goes wrong around a shutdown, or on the disk, and how the machine gets out of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import Versions

_DROP_IN = "/etc/systemd/system/ostree-finalize-staged.service.d/50-test.conf"


def _status(machine: Machine) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(machine.succeed("bootc status --json"))["status"]
    return status


def _fetched_by(machine: Machine, registry: Registry, command: str) -> int:
    """Bytes of layers that a command of the guest got."""
    registry.forget_requests()
    machine.succeed(command, seconds=900)
    return sum(each.sent for each in registry.requests("layer"))


def _finalize_with(machine: Machine, setting: str) -> None:
    machine.succeed(f"mkdir -p $(dirname {_DROP_IN})")
    machine.write(_DROP_IN, f"[Service]\n{setting}\n")
    machine.succeed("systemctl daemon-reload")


def _cut_power_at(machine: Machine, word: str) -> None:
    """Restart, and cut the power as soon as the shutdown says a word."""
    machine.console.forget_unread()
    machine.begin("systemctl reboot")  # it does not come back
    machine.console.expect([word.encode()], timeout=machine.seconds(300))
    machine.power_cut()
    machine.boot(seconds=900)


@pytest.mark.long
def test_what_befalls_a_finalization_costs_the_staging_at_most_and_no_download(
    boot: Callable[[str, str], Machine], bootc_registry: Registry, versions: Versions
) -> None:
    machine = boot(versions.one, "bios")
    bootc_registry.configure(machine, "registry.example")
    bootc_registry.push(versions.two, "os:stable")
    assert _fetched_by(machine, bootc_registry, "bootc upgrade") > 0

    # Before.
    machine.succeed("sync")
    machine.power_cut()
    machine.boot(seconds=900)
    assert (_status(machine)["booted"]["image"]["version"], _status(machine)["staged"]) == (
        "1",
        None,
    )
    assert _fetched_by(machine, bootc_registry, "bootc upgrade") == 0

    # In between: /etc is merged, the entries are written, the menu is not there yet.
    machine.write(
        "/etc/slow-menu", "#!/bin/sh\necho MENU-BEGUN >/dev/console\nexec sleep infinity\n"
    )
    machine.succeed("chmod +x /etc/slow-menu")
    _finalize_with(machine, "Environment=OSTREE_GRUB2_EXEC=/etc/slow-menu")
    _cut_power_at(machine, "MENU-BEGUN")
    status = _status(machine)
    assert (status["booted"]["image"]["version"], status["staged"]) == ("1", None)
    assert _fetched_by(machine, bootc_registry, "bootc upgrade") == 0

    # It fails, and the next boot says so.
    _finalize_with(machine, "Environment=OSTREE_GRUB2_EXEC=/bin/false")
    machine.reboot(seconds=900)
    status = _status(machine)
    assert (status["booted"]["image"]["version"], status["staged"]) == ("1", None)
    assert status["finalizeFailure"]
    assert status["finalizeFailure"] in machine.succeed("bootc status --format=humanreadable")
    assert _fetched_by(machine, bootc_registry, "bootc upgrade") == 0
    assert "finalizeFailure" not in _status(machine)

    # After.
    _finalize_with(
        machine, "ExecStopPost=/bin/sh -c 'echo FINALIZED >/dev/console; exec sleep infinity'"
    )
    _cut_power_at(machine, "FINALIZED")
    assert _status(machine)["booted"]["image"]["version"] == "2"
    assert machine.succeed("bootc internals fsck", seconds=900)


@pytest.mark.long
def test_a_damaged_system_is_repaired_while_it_runs(
    boot: Callable[[str, str], Machine], bootc_registry: Registry, versions: Versions
) -> None:
    machine = boot(versions.one, "bios")
    bootc_registry.configure(machine, "registry.example")
    bootc_registry.push(versions.one, "os:stable")
    entries = machine.succeed("cat /boot/loader/entries/*")
    machine.succeed("mount -o remount,rw /sysroot; mount -o remount,rw /boot")
    root = machine.succeed("echo /sysroot/ostree/deploy/default/deploy/*.0").strip()
    # Truncated, missing, corrupt; and the kernel in /boot.
    machine.succeed(f": > {root}/usr/share/hello/version")
    machine.succeed("rm $(find /sysroot/ostree/repo/objects -samefile /usr/bin/bootc)")
    machine.succeed(f"printf X | dd of={root}/usr/lib/os-release conv=notrunc status=none")
    machine.succeed("truncate -s 1M /boot/ostree/*/initramfs*")
    machine.fail("bootc internals fsck", seconds=900)
    bootc_registry.forget_requests()
    said = machine.succeed("bootc internals fsck --repair", seconds=900)
    assert said.count("repaired: objects:") == 3
    assert "repaired: boot-entries:" in said
    layers = [each.digest for each in bootc_registry.requests("layer")]
    assert 0 < len(layers) == len(set(layers))
    machine.succeed("bootc internals fsck", seconds=900)
    assert machine.read("/usr/share/hello/version") == "1\n"
    assert machine.succeed("cat /boot/loader/entries/*") == entries
    machine.reboot(seconds=900)
    assert _status(machine)["booted"]["image"]["version"] == "1"
