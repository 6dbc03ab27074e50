"""A new version that does not come up: the machine goes back to the last good one by itself, and says so."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.accel import Accelerator
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from bootc_build.vm.spec import MachineSpec
from test_vms import broken_images, failing_boots, fault_matrix_page, os_images
from test_vms.example_os import FOLLOWS, Versions
from test_vms.failing_boots import CASES, TRIES, Case

_FELL_BACK = re.compile(rb"fellback=(\w+)")
_TROUBLE = (
    "Kernel panic",
    "emergency",
    "Failed to mount",
    "rdsosreport",
    "error: ",
    "Cannot open access",
    "Unable to mount root",
    "Oops",
    "Caught <SEGV>",
)


def _status(machine: Machine) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(machine.succeed("bootc status --json"))["status"]
    return status


def _trials(machine: Machine) -> list[str]:
    """What the kernels of boots on trial were told, in the order of the boots."""
    # A busy serial line loses bytes, and the kernel says it twice.
    found = re.findall(r"trial=(\w+)", "\n".join(line.text for line in machine.console.history))
    return [value for value, _repeated in groupby(found)]


def upgrade_into(machine: Machine, image: str, registry: Registry) -> None:
    """Queue a version and restart; returns when the menu has fallen back and the machine is up."""
    registry.push(image, "os:stable")
    machine.bootc.upgrade()
    machine.expected_trouble.extend(re.compile(text) for text in _TROUBLE)
    with machine.expect_reboot(seconds=900):
        machine.qemu.set_reboot_allowed(allowed=True)
        machine.begin("systemctl reboot")  # no shell of a failing boot is waited for
        machine.console.expect([_FELL_BACK], timeout=machine.seconds(1500))


def check_fallen_back(machine: Machine, reason: str) -> None:
    """Version 1 runs and is the default; version 2 is known to have failed, and is not queued again."""
    machine.wait_for_unit("bootc-boot-fell-back.service")
    status = _status(machine)
    assert status["booted"]["image"]["version"] == "1"
    assert status["rollback"]["image"]["version"] == "2"
    assert status["rollbackQueued"] is False
    assert status["bootHealth"]["fellBack"] is True
    [failed] = status["failedImages"]
    assert failed["imageDigest"] == status["rollback"]["image"]["imageDigest"]
    assert re.search(reason, failed["reason"])
    text = machine.succeed("bootc status --format=humanreadable")
    assert failed["reason"] in text
    journal = machine.succeed(
        "journalctl -b --no-pager MESSAGE_ID=5f1b9a2c7d3e4c0b8a6f9d1e2c3b4a50"
    )
    assert failed["imageDigest"] in journal
    assert "--retry-failed" in machine.succeed("bootc upgrade")
    assert _status(machine)["staged"] is None


@pytest.fixture
def broken(versions: Versions) -> Callable[[str], str]:
    """Version 2, spoiled by the fault of a name."""
    return lambda fault: os_images.altered(
        f"os-2-{fault}",
        versions.two,
        partial(broken_images.spoil, fault=fault),
        Path(broken_images.__file__),
    )


def check_case(case: Case, machine: Machine, registry: Registry, image: str) -> None:
    registry.configure(machine, "registry.example")
    if 0 < case.tries < TRIES:
        machine.succeed(f"mkdir -p /etc/bootc; echo tries={case.tries} > /etc/bootc/health.conf")
    upgrade_into(machine, image, registry)
    left = [str(number) for number in reversed(range(case.tries))]
    assert [each for each in _trials(machine) if each in "012"] == left
    check_fallen_back(machine, case.reason)
    ended = f"fell back, {case.tries} tries" if case.tries else "fell back at once"
    firmware = str(machine.spec.firmware)
    fault_matrix_page.note(failing_boots.PHASE, f"{case.fault} ({firmware})", "kept", ended)


def test_a_version_whose_initramfs_is_cut_is_fallen_back_from(
    boot: Callable[[str, str], Machine],
    bootc_registry: Registry,
    versions: Versions,
    broken: Callable[[str], str],
) -> None:
    # All its tries are among the long tests.
    case = replace(CASES["cut-initramfs"], tries=1)
    check_case(case, boot(versions.one, "bios"), bootc_registry, broken(case.fault))


@pytest.mark.long
@pytest.mark.parametrize(("fault", "firmware"), failing_boots.CELLS)
def test_every_kind_of_failing_boot_is_fallen_back_from(
    fault: str,
    firmware: str,
    *,
    boot: Callable[[str, str], Machine],
    bootc_registry: Registry,
    versions: Versions,
    broken: Callable[[str], str],
) -> None:
    check_case(CASES[fault], boot(versions.one, firmware), bootc_registry, broken(fault))


@pytest.mark.long
def test_a_frozen_system_is_restarted_by_the_watchdog(
    bootc_vm: MachineFactory,
    bootc_registry: Registry,
    versions: Versions,
    broken: Callable[[str], str],
) -> None:
    spec = MachineSpec(extra_args=("-device", "i6300esb", "-action", "watchdog=reset"))
    machine = bootc_vm(versions.one, origin=FOLLOWS, spec=spec)
    # Neither the deadline nor the kernel restarts it.
    if machine.acceleration.accelerator is Accelerator.TCG:
        assert "OnBootSec=3h" in machine.succeed("systemctl cat bootc-boot-deadline.timer")
    check_case(failing_boots.FROZEN, machine, bootc_registry, broken("frozen"))
    assert sum(each["event"] == "WATCHDOG" for each in machine.qemu.monitor.events) == 1


@pytest.mark.long
def test_a_failed_version_is_mended_by_the_next_one(
    boot: Callable[[str, str], Machine],
    bootc_registry: Registry,
    versions: Versions,
    broken: Callable[[str], str],
) -> None:
    machine = boot(versions.one, "uefi-secure")
    bootc_registry.configure(machine, "registry.example")
    upgrade_into(machine, broken("failing-unit"), bootc_registry)
    check_fallen_back(machine, "application.service")
    assert "the application found no licence" in machine.succeed(
        "bootc status --format=humanreadable"
    )
    bootc_registry.push(versions.two, "os:stable")
    machine.bootc.upgrade()
    machine.reboot()
    machine.wait_for_unit("bootc-boot-complete.service")
    status = _status(machine)
    assert status["booted"]["image"]["version"] == "2"
    assert status["bootHealth"] == {
        "state": "healthy",
        "triesLeft": None,
        "reason": None,
        "fellBack": False,
    }
    assert len(status["failedImages"]) == 1
    good = machine.succeed("grep -a ^bootc_ /boot/bootc.env").split()
    assert good == [f"bootc_good={_name(status['booted'])}"]
    # The next boot is an ordinary one.
    machine.reboot()
    assert "bootc." not in machine.read("/proc/cmdline")


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['ostree']['checksum']}.{entry['ostree']['deploySerial']}"
