"""The cells of the fault matrix: when something goes wrong, and what.

An upgrade runs as the unit `try`; it is stopped (SIGSTOP) as soon as it is in the phase, and goes on once the fault has
struck.
"""

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bootc_build.testing.faults import REGISTRY_FAULTS
from bootc_build.vm.block import IoError, IoErrors, Operation
from bootc_build.vm.machine import Machine

_PID = "$(systemctl show --property=MainPID --value try)"
_ERRORS = IoErrors((IoError(Operation.WRITE, errno.EIO),))
# What a guest says when its disk fails, as it should.
TROUBLE = re.compile(r"I/O error|EXT4-fs|JBD2|Remounting filesystem")

# Phase -> when an upgrade is in it, as a condition for bash; builtins only, so that it is asked often.
PHASES = {
    "fetch": "compgen -G '/sysroot/ostree/repo/tmp/staging-*' >/dev/null",
    "import": "compgen -G '/sysroot/ostree/repo/tmp/staging-*/??/*.file' >/dev/null",
    "deploy": "shopt -s nullglob; found=(/sysroot/ostree/deploy/*/deploy/*.[0-9]); (( ${#found[@]} > 1 ))",
    "stage": "[[ -e /run/ostree/staged-deployment ]]",
}


def _nothing(_host: Machine) -> None:
    """There is nothing to do."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        strike: make it so, while the upgrade stands still.
        end: make it end.
        fatal: to this boot of the machine: only its disk is looked at afterwards.
        trouble: what the console may say meanwhile.
    """

    strike: Callable[[Machine], object]
    end: Callable[[Machine], object] = field(default=_nothing)
    fatal: bool = False
    trouble: bool = False


def _run(command: str) -> Callable[[Machine], object]:
    return lambda host: host.succeed(command)


def _link(*, up: bool) -> Callable[[Machine], object]:
    return lambda host: host.qemu.monitor.execute("set_link", name="net0", up=up)


def _set_clock_right(host: Machine) -> None:
    host.succeed(f"date -s @{time.time():.0f}")


_FILL = (
    "fallocate -l $(( $(df --output=avail -B1 {0} | tail -n 1) - 300000 )) {0}/filler || "
    "dd if=/dev/zero of={0}/filler bs=1M status=none; sync"
)

FAULTS = {
    "power-cut": Fault(_nothing, fatal=True),
    "kill-agent": Fault(_run(f"kill -KILL {_PID}")),
    "kill-everything": Fault(_run("systemctl kill --signal=KILL try")),
    "kill-fetcher": Fault(_run("pkill -KILL -x skopeo || true")),
    "out-of-memory": Fault(
        _run("systemctl set-property --runtime try.service MemoryMax=1M"), trouble=True
    ),
    "link-cut": Fault(_link(up=False), _link(up=True)),
    "disk-full": Fault(_run(_FILL.format("/var")), _run("rm -f /var/filler")),
    "boot-full": Fault(_run(_FILL.format("/boot")), _run("rm -f /boot/filler")),
    "read-only": Fault(
        _run("echo u > /proc/sysrq-trigger; grep -q ' / .*ro[, ]' /proc/mounts"),
        _run("mount -o remount,rw /var; mount -o remount,rw /boot; true"),
        fatal=True,
        trouble=True,
    ),
    "write-errors": Fault(
        lambda host: host.qemu.put_filter(0, _ERRORS, "cell"), fatal=True, trouble=True
    ),
    # As early as systemd lets a clock be that has lost its battery: never before systemd was built. In 1970 ext4's
    # times of deletion would be taken for numbers of inodes, and e2fsck would ask a person what to do.
    "clock-lost": Fault(_run("date -s 2025-01-01"), _set_clock_right),
    "clock-2038": Fault(_run("date -s @2147483640"), _set_clock_right),
    "clock-backwards": Fault(_run("date -s '-400 days'"), _set_clock_right),
}
"""By name. A power cut is a copy of the disk at that moment, which is looked at as every cell's is."""

CELLS = [(phase, fault) for phase in PHASES for fault in FAULTS]
REGISTRY_CELLS = [("fetch", name) for name, fault in REGISTRY_FAULTS.items() if not fault.needs_tls]


def hold(host: Machine, phase: str) -> None:
    """Begin an upgrade, and let it stand still as soon as it is in a phase."""
    host.succeed("systemd-run --quiet --unit=try --property=RemainAfterExit=yes bootc upgrade")
    script = f"pid={_PID}\nwhile kill -0 $pid 2>/dev/null; do\n"
    script += f"if {PHASES[phase]}; then kill -STOP $pid; exit 0; fi\ndone\nexit 1\n"
    host.write("/run/hold", script)
    host.succeed("bash /run/hold", seconds=600)


def go_on(host: Machine) -> None:
    """Let the upgrade go on, if it still lives."""
    host.succeed(f"kill -CONT {_PID} 2>/dev/null || true")


def wait_for_end(host: Machine, seconds: float) -> str:
    """What systemd says of the upgrade's end ("success", "exit-code", "signal")."""
    ended = "test $(systemctl show --property=SubState --value try) != running"
    host.wait_until_succeeds(ended, seconds=seconds)
    result = host.succeed("systemctl show --property=Result --value try").strip()
    host.succeed("systemctl stop try 2>/dev/null; systemctl reset-failed try 2>/dev/null; true")
    return result
