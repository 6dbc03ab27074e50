"""The cells of the fault matrix: when something goes wrong, and what.

A command runs as a unit; it is stopped (SIGSTOP) as soon as it is in the phase, and goes on once the fault has struck.
"""

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bootc_build.testing.faults import REGISTRY_FAULTS
from bootc_build.vm.block import IoError, IoErrors, Operation
from bootc_build.vm.machine import Machine

_ERRORS = IoErrors((IoError(Operation.WRITE, errno.EIO),))
# What a guest says when its disk fails, as it should.
TROUBLE = re.compile(r"I/O error|EXT4-fs|JBD2|Remounting filesystem")

_TRY = "systemd-run --quiet --unit=try --property=RemainAfterExit=yes"
# libostree writes the entries of the next boot beside those of this one, and removes these last.
_TWO_MENUS = "shopt -s nullglob; found=(/boot/loader.?); (( ${#found[@]} > 1 ))"
# An image that is followed no more, and whose deployment is gone.
_ABANDON_STAGED = """
bootc switch registry.example/os:next
checksum=$(bootc status --json | python3 -c "import json, sys
print(json.load(sys.stdin)['status']['staged']['ostree']['checksum'])")
echo /sysroot/ostree/repo/objects/${checksum:0:2}/${checksum:2}.commit > /run/object
test -e $(cat /run/object)
ostree admin undeploy 0
"""


@dataclass(frozen=True)
class Phase:
    """A part of what happens to a machine, in which it can be held.

    Args:
        when: whether it is in it, as a condition for bash; builtins only, so that it is asked often.
        command: what leads into it; it returns at once.
        prepare: what is done before that.
        unit: in which the command's work is done.
        pid: systemd's property of that unit with the process that does it.
        is_upgraded: the machine runs version 2 and can go back to version 1; otherwise it has version 1 only.
        swaps: the work changes what boots next.
    """

    when: str
    command: str = f"{_TRY} bootc upgrade"
    prepare: str = "true"
    unit: str = "try"
    pid: str = "MainPID"
    is_upgraded: bool = False
    swaps: bool = False

    def do(self, what: str) -> str:
        """A command about the unit (`{unit}`) or its process (`{pid}`)."""
        pid = f"$(systemctl show --property={self.pid} --value {self.unit})"
        return what.format(unit=self.unit, pid=pid)


PHASES = {
    "fetch": Phase("compgen -G '/sysroot/ostree/repo/tmp/staging-*' >/dev/null"),
    "import": Phase("compgen -G '/sysroot/ostree/repo/tmp/staging-*/??/*.file' >/dev/null"),
    "deploy": Phase(
        "shopt -s nullglob; found=(/sysroot/ostree/deploy/*/deploy/*.[0-9]); (( ${#found[@]} > 1 ))"
    ),
    "stage": Phase("[[ -e /run/ostree/staged-deployment ]]"),
    # What a shutdown does, without one.
    "finalize": Phase(
        _TWO_MENUS,
        command="systemctl --no-block stop ostree-finalize-staged",
        prepare="bootc upgrade",
        unit="ostree-finalize-staged",
        pid="ControlPID",
        swaps=True,
    ),
    "rollback": Phase(_TWO_MENUS, command=f"{_TRY} bootc rollback", is_upgraded=True, swaps=True),
    # Objects of an image that nothing needs are being removed.
    "clean-up": Phase(
        "[[ -v object ]] || object=$(cat /run/object); [[ ! -e $object ]]",
        command=f"{_TRY} bootc internals cleanup",
        prepare=_ABANDON_STAGED,
    ),
}


def _nothing(_host: Machine, _phase: Phase) -> None:
    """There is nothing to do."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        strike: make it so, while the upgrade stands still.
        end: make it end.
        fatal: to this boot of the machine: only its disk is looked at afterwards.
        trouble: what the console may say meanwhile.
        phases: when it can strike, and is tried; None: in all.
    """

    strike: Callable[[Machine, Phase], object]
    end: Callable[[Machine, Phase], object] = field(default=_nothing)
    fatal: bool = False
    trouble: bool = False
    phases: tuple[str, ...] | None = None


def _run(command: str) -> Callable[[Machine, Phase], object]:
    return lambda host, phase: host.succeed(phase.do(command), seconds=600)


def _link(*, up: bool) -> Callable[[Machine, Phase], object]:
    return lambda host, _phase: host.link(up=up)


def _set_clock_right(host: Machine, _phase: Phase) -> None:
    host.succeed(f"date -s @{time.time():.0f}")


def _fill(folder: str) -> Callable[[Machine, Phase], object]:
    return _run(
        f"fallocate -l $(( $(df --output=avail -B1 {folder} | tail -n 1) - 300000 )) {folder}/filler || "
        f"dd if=/dev/zero of={folder}/filler bs=1M status=none; sync"
    )


def _use_all_inodes(host: Machine, _phase: Phase) -> None:
    script = "import itertools, os\nos.mkdir('/var/filler')\nfor n in itertools.count():\n"
    script += "  if n % 1000 == 0:\n    os.mkdir(f'/var/filler/{n}'); last = n\n"
    script += "  os.close(os.open(f'/var/filler/{last}/{n}', os.O_CREAT))\n"
    host.write("/run/use-inodes.py", script)
    host.fail("python3 /run/use-inodes.py", seconds=900)
    assert host.succeed("df --output=iavail /var | tail -n 1").strip() == "0"


_UPGRADE = ("fetch", "import", "deploy", "stage")

FAULTS = {
    "power-cut": Fault(_nothing, fatal=True),
    "kill-agent": Fault(_run("kill -KILL {pid}")),
    "kill-everything": Fault(_run("systemctl kill --signal=KILL {unit}")),
    "kill-fetcher": Fault(_run("pkill -KILL -x skopeo || true"), phases=_UPGRADE),
    "out-of-memory": Fault(
        _run("systemctl set-property --runtime {unit}.service MemoryMax=1M"), trouble=True
    ),
    "link-cut": Fault(_link(up=False), _link(up=True), phases=_UPGRADE),
    "disk-full": Fault(_fill("/var"), _run("rm -f /var/filler")),
    "boot-full": Fault(_fill("/boot"), _run("rm -f /boot/filler")),
    # To use half a million of them, and to free them again, takes minutes.
    "inodes-gone": Fault(
        _use_all_inodes, _run("rm -rf /var/filler"), phases=("import", "deploy", "finalize")
    ),
    # The fetcher has to ask for the address again.
    "dns-gone": Fault(
        _run("sed -i s/registry.guest/gone.guest/ /etc/hosts; pkill -KILL -x skopeo || true"),
        _run("sed -i s/gone.guest/registry.guest/ /etc/hosts"),
        phases=("fetch", "import"),
    ),
    "read-only": Fault(
        _run("echo u > /proc/sysrq-trigger; grep -q ' / .*ro[, ]' /proc/mounts"),
        _run("mount -o remount,rw /var; mount -o remount,rw /boot; true"),
        fatal=True,
        trouble=True,
    ),
    "write-errors": Fault(
        lambda host, _phase: host.qemu.put_filter(0, _ERRORS, "cell"), fatal=True, trouble=True
    ),
    # As early as systemd lets a clock be that has lost its battery: never before systemd was built. In 1970 ext4's
    # times of deletion would be taken for numbers of inodes, and e2fsck would ask a person what to do.
    "clock-lost": Fault(_run("date -s 2025-01-01"), _set_clock_right),
    "clock-2038": Fault(_run("date -s @2147483640"), _set_clock_right),
    "clock-backwards": Fault(_run("date -s '-400 days'"), _set_clock_right),
}
"""By name. A power cut is a copy of the disk at that moment, which is looked at as every cell's is."""

CELLS = [
    (phase, name)
    for phase in PHASES
    for name, fault in FAULTS.items()
    if fault.phases is None or phase in fault.phases
]
REGISTRY_CELLS = [("fetch", name) for name, fault in REGISTRY_FAULTS.items() if not fault.needs_tls]
FIRST_BOOT_MOMENTS = ("Linux version", "Run /init", "Welcome to", "login: ")
"""Words of a booting machine's console at which its power is cut, in their order."""


def hold(host: Machine, phase: Phase) -> None:
    """Begin what leads into a phase, and let it stand still as soon as it is there."""
    host.succeed(phase.command)
    pid = phase.do("{pid}")
    script = f"for ((i = 0; i < 1000; i++)); do pid={pid}; [[ $pid = 0 ]] || break; done\n"
    script += "while kill -0 $pid 2>/dev/null; do\n"
    script += f"if {phase.when}; then kill -STOP $pid; exit 0; fi\ndone\nexit 1\n"
    host.write("/run/hold", script)
    host.succeed("bash /run/hold", seconds=600)


def go_on(host: Machine, phase: Phase) -> None:
    """Let it go on, if it still lives."""
    host.succeed(phase.do("kill -CONT {pid} 2>/dev/null || true"))


def wait_for_end(host: Machine, phase: Phase, seconds: float) -> str:
    """What systemd says of its end ("success", "exit-code", "signal")."""
    runs = phase.do(
        "systemctl show --property=SubState --value {unit} | grep -qE '^(running|stop)'"
    )
    host.wait_until_succeeds(f"! {runs}", seconds=seconds)
    result = host.succeed(phase.do("systemctl show --property=Result --value {unit}")).strip()
    host.succeed("systemctl stop try 2>/dev/null; systemctl reset-failed 2>/dev/null; true")
    return result
