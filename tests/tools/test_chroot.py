"""Programs of another root directory: what they may do, and how their end is told."""

import os
from pathlib import Path

import pytest

from bootc_build.tools.chroot import look

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ROOT = Path("/")


def shell(script: str) -> int | None:
    return look(ROOT, ["/bin/sh", "-c", script])


def test_its_exit_status_is_told() -> None:
    assert shell("exit 10") == 10
    assert shell("kill -TERM $$") == -15


def test_it_reads_what_root_owns_and_has_no_other_power(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o400)
    assert shell(f"cat {secret}") == 0
    os.chown(secret, 1, 1)
    assert shell(f"cat {secret}") == 1
    assert shell("grep -q '^CapEff:.0*$' /proc/self/status") == 0
    assert shell("grep -q '^CapBnd:.0*$' /proc/self/status") == 0
    assert shell("grep -q '^NoNewPrivs:.1$' /proc/self/status") == 0


def test_it_sees_its_root_directory_alone(tmp_path: Path) -> None:
    assert look(tmp_path, ["/bin/true"]) is None
