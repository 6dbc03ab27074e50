"""The script that runs health checks: ours and greenboot's, each with a time limit."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bootc_build/data/image_root/usr/libexec/bootc/health-check"


def add(root: Path, path: str, body: str, mode: int = 0o755) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(mode)


def run(root: Path, mode: str = "run") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BOOTC_CONFIGURATION_ROOT": str(root)}
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


def test_wrong_usage_is_told() -> None:
    assert run(Path("/nonexistent"), "dance").returncode == 2
