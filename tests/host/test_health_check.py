"""The script that runs health checks: ours and greenboot's, each with a time limit."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bootc_build/data/image_root/usr/libexec/bootc/health-check"


def add(root: Path, path: str, body: str, mode: int = 0o755) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(mode)


def run(root: Path, mode: str = "run", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BOOTC_CONFIGURATION_ROOT": str(root), **more}
    return subprocess.run(
        [SCRIPT, mode], check=False, capture_output=True, text=True, env=environment
    )


def test_nothing_to_check_is_healthy(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "place",
    [
        "etc/bootc/health.d/required.d",
        "usr/lib/bootc/health.d/required.d",
        "etc/greenboot/check/required.d",
        "usr/lib/greenboot/check/required.d",
    ],
)
def test_a_required_check_that_fails_fails_the_boot(tmp_path: Path, place: str) -> None:
    add(tmp_path, f"{place}/10-first", "echo no disk; exit 3")
    add(tmp_path, f"{place}/20-second", "echo ran nevertheless")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "no disk\n" in done.stdout
    assert "ran nevertheless\n" in done.stdout
    assert f"{place}/10-first: failed with status 3" in done.stderr


def test_a_wanted_check_that_fails_only_says_so(tmp_path: Path) -> None:
    add(tmp_path, "etc/bootc/health.d/wanted.d/check", "exit 1")
    done = run(tmp_path)
    assert done.returncode == 0
    assert "wanted.d/check: failed with status 1" in done.stderr


def test_a_check_that_does_not_end_is_ended(tmp_path: Path) -> None:
    add(tmp_path, "etc/bootc/health.d/required.d/check", "exec sleep 600")
    (tmp_path / "etc/bootc/health.conf").write_text("check-seconds = 1\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "not done within 1 seconds" in done.stderr


def test_checks_run_by_name_and_the_owner_s_hides_the_image_s(tmp_path: Path) -> None:
    add(tmp_path, "usr/lib/bootc/health.d/required.d/10-disk", "echo image")
    add(tmp_path, "etc/bootc/health.d/required.d/10-disk", "echo owner")
    add(tmp_path, "etc/bootc/health.d/required.d/05 with blanks", "echo first")
    add(tmp_path, "etc/bootc/health.d/required.d/99-readme", "echo not executable", mode=0o644)
    done = run(tmp_path)
    assert done.returncode == 0
    said = [line for line in done.stdout.splitlines() if not line.startswith("health check")]
    assert said == ["first", "owner"]


def test_an_empty_file_of_the_owner_turns_a_check_off(tmp_path: Path) -> None:
    add(tmp_path, "usr/lib/bootc/health.d/required.d/10-disk", "exit 1")
    off = tmp_path / "etc/bootc/health.d/required.d/10-disk"
    off.parent.mkdir(parents=True)
    off.touch()
    assert run(tmp_path).returncode == 0


def test_greenboot_s_scripts_follow_a_good_and_a_failed_boot(tmp_path: Path) -> None:
    add(tmp_path, "etc/greenboot/green.d/tell", "echo good")
    add(tmp_path, "etc/greenboot/red.d/tell", "echo bad")
    assert "good\n" in run(tmp_path, "green").stdout
    assert "bad\n" in run(tmp_path, "red").stdout


def test_scripts_for_a_failed_boot_share_one_limit(tmp_path: Path) -> None:
    for name in ("10-first", "20-second", "30-third"):
        add(tmp_path, f"etc/greenboot/red.d/{name}", "exec sleep 600")
    done = run(tmp_path, "red", BOOTC_RED_SECONDS="1")
    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert "10-first: not done within 1 seconds" in first
    assert ["left out" in line for line in others] == [True, True]


_FAKES = {"systemctl": 'echo "$*" >>"$LOG"', "journalctl": ":", "sync": ":"}
# The failing system: its scripts in place of this machine's, and a command line that says it is on trial.
_FAILING = """
mount --bind "$SCRIPTS" /usr/libexec
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
mount --bind "$CMDLINE" /proc/cmdline
exec /usr/libexec/bootc/boot-failed failed
"""


def test_a_system_on_trial_restarts_whatever_its_scripts_for_a_failed_boot_do(
    tmp_path: Path,
) -> None:
    for name in ("10-first", "20-second", "30-third", "40-fourth"):
        add(tmp_path, f"etc/greenboot/red.d/{name}", "trap '' TERM; while :; do sleep 600; done")
    for name, body in _FAKES.items():
        add(tmp_path, f"bin/{name}", body)
    shutil.copytree(SCRIPT.parent, tmp_path / "libexec/bootc")
    (tmp_path / "cmdline").write_text("rw ostree=/x bootc.trial=2\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-eu", "-c", _FAILING],
        check=False,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "BOOTC_CONFIGURATION_ROOT": str(tmp_path),
            "BOOTC_RED_SECONDS": "1",
            "LOG": str(tmp_path / "log"),
            "SCRIPTS": str(tmp_path / "libexec"),
            "CMDLINE": str(tmp_path / "cmdline"),
        },
    )
    assert (tmp_path / "log").read_text().splitlines()[-1] == "reboot", done.stderr
    assert done.stderr.count("left out") == 3


def test_the_unit_leaves_the_scripts_for_a_failed_boot_twice_their_time() -> None:
    unit = SCRIPT.parents[2] / "lib/systemd/system/bootc-boot-failed.service"
    [limit] = re.findall(r"^TimeoutStartSec=(\d+)min$", unit.read_text(), re.MULTILINE)
    [given] = re.findall(r"\bBOOTC_RED_SECONDS:-(\d+)", SCRIPT.read_text())
    caller = SCRIPT.with_name("boot-failed").read_text()
    [cut] = re.findall(r"timeout --kill-after=5 (\d+) \S+ red", caller)
    assert int(given) + 5 < int(cut) <= int(limit) * 60 // 2


def test_wrong_usage_is_told() -> None:
    assert run(Path("/nonexistent"), "dance").returncode == 2
