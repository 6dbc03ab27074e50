"""``bootc-build run --snapshot``: the guest is booted once, whoever starts it how often."""

import sys

import pexpect
import pytest

from bootc_build.cli.main import main
from test_vms.example_os import Versions

_TELL = ("cat", "/proc/sys/kernel/random/boot_id")


@pytest.mark.long
def test_a_snapshot_serves_commands_and_the_terminal(
    versions: Versions, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--snapshot", versions.one]
    assert main([*arguments, "--", *_TELL]) == 0
    boot = capfd.readouterr().out
    assert main([*arguments, "--", "sh", "-c", f"{' '.join(_TELL)}; touch /etc/mine; exit 7"]) == 7
    assert capfd.readouterr().out == boot
    argv = ["-m", "bootc_build.cli.main", *arguments]
    with pexpect.spawn(sys.executable, argv, timeout=120, encoding="utf-8") as program:
        program.expect_exact("Ctrl-] turns the machine off")
        program.sendline("")
        program.sendline(" ".join(_TELL))
        program.expect_exact(boot.strip())
        # What another guest wrote is its own.
        program.sendline("test -e /etc/mine || echo none''there")
        program.expect_exact("nonethere")
        program.send("\x1d")
        program.expect(pexpect.EOF)
        program.wait()
        assert program.exitstatus == 0
