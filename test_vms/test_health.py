"""A new version that does not come up: the machine goes back to the last good one by itself, and says so."""

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms import broken_images, os_images
from test_vms.example_os import Versions

_TRIES = 3
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
    machine.console.expected.extend(re.compile(text) for text in _TROUBLE)
    with machine.expect_reboot(seconds=900):
        machine.qemu.set_reboot_allowed(allowed=True)
        machine._leave("systemctl reboot")  # noqa: SLF001 - no shell of a failing boot is waited for
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


def test_a_version_whose_initramfs_is_cut_is_fallen_back_from(
    boot: Callable[[str, str], Machine],
    bootc_registry: Registry,
    versions: Versions,
    broken: Callable[[str], str],
) -> None:
    machine = boot(versions.one, "bios")
    bootc_registry.configure(machine, "registry.example")
    upgrade_into(machine, broken("cut-initramfs"), bootc_registry)
    assert _trials(machine) == ["2", "1", "0"]
    check_fallen_back(machine, "kernel panic")
