"""The units that come with the agent are such as systemd takes, and enabled as upstream has them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.pretend_boot import CHECKOUT

_SYSTEM = CHECKOUT / "bootc_build/data/image_root/usr/lib/systemd/system"
_PRESET = CHECKOUT / "bootc_build/data/image_root/usr/lib/systemd/system-preset/10-bootc.preset"
_UNITS = (
    "bootc-destructive-cleanup.service",
    "bootc-fetch-apply-updates.service",
    "bootc-fetch-apply-updates.timer",
    "bootc-status-updated-onboot.target",
    "bootc-status-updated.path",
    "bootc-status-updated.target",
)
_BOOT_UNITS = (
    "bootc-boot-complete.service",
    "bootc-boot-deadline.service",
    "bootc-boot-deadline.timer",
    "bootc-boot-failed.service",
    "bootc-boot-fell-back.service",
    "bootc-finalize-failed.service",
    "bootc-health.service",
)
_LIBEXEC = CHECKOUT / "bootc_build/data/image_root/usr/libexec/bootc"


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = tmp_path / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", units, symlinks=True)
    for name in (*_UNITS, *_BOOT_UNITS):
        shutil.copy(_SYSTEM / name, units)
    for drop_in in _SYSTEM.glob("*.target.d"):
        shutil.copytree(drop_in, units / drop_in.name, dirs_exist_ok=True)
    shutil.copytree(_LIBEXEC, tmp_path / "usr/libexec/bootc")
    program = tmp_path / "usr/bin/bootc"
    program.parent.mkdir(parents=True)
    for path in (program, program.with_name("install")):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={tmp_path}", "--man=no", *_UNITS, *_BOOT_UNITS],
        check=False,
        capture_output=True,
        text=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "bootc" in line]
    assert complaints == []


def test_updates_are_applied_by_themselves_only_where_the_owner_says_so() -> None:
    lines = [line.split() for line in _PRESET.read_text().splitlines() if line[0] != "#"]
    rules = {unit: rule for rule, unit in lines}
    assert rules["bootc-fetch-apply-updates.timer"] == "disable"
    assert rules["bootc-status-updated.path"] == "enable"
    assert rules["bootc-status-updated-onboot.target"] == "enable"
    for name in _UNITS:
        can_be_enabled = re.search(r"^\[Install\]$", (_SYSTEM / name).read_text(), re.MULTILINE)
        assert bool(can_be_enabled) == (name in rules)


def test_the_timer_runs_what_fetches_and_reboots() -> None:
    service = (_SYSTEM / "bootc-fetch-apply-updates.service").read_text()
    assert "ExecStart=/usr/bin/bootc upgrade --apply --quiet\n" in service


def test_what_counts_boots_cannot_be_lost_in_etc() -> None:
    wanted = " ".join(path.read_text() for path in _SYSTEM.glob("*.target.d/*.conf"))
    for name in _BOOT_UNITS:
        assert "[Install]" not in (_SYSTEM / name).read_text()
        activated = name == "bootc-boot-deadline.service"  # by its timer
        assert activated or name in wanted
