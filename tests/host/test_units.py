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
    "bootc-fetch-apply-updates.service",
    "bootc-fetch-apply-updates.timer",
    "bootc-status-updated-onboot.target",
    "bootc-status-updated.path",
    "bootc-status-updated.target",
)


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = tmp_path / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", units, symlinks=True)
    for name in _UNITS:
        shutil.copy(_SYSTEM / name, units)
    program = tmp_path / "usr/bin/bootc"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={tmp_path}", "--man=no", *_UNITS],
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
