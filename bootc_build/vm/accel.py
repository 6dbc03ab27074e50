"""Which accelerator really runs guest code, and how fast: measured, because /dev/kvm can lie.

On some hosts (KVM by `kvm_pvm`) /dev/kvm opens and creates machines, yet ordinary guest code runs hundreds
of times slower than under TCG. So a boot sector that spins 10^8 times and leaves through
`isa-debug-exit` has to come back in five seconds. Its time also scales every timeout of the library.

The answer is cached in a file that is named by QEMU's version and the kernel; a file that cannot be read is
as good as none. It is written by rename, so readers never see half of it.
"""

import hashlib
import json
import os
import platform
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import CommandTimeoutError, find_program, run
from bootc_build.tools.cache import cache_folder

_PROBE_SECONDS = 5.0
_TCG_PROBE_SECONDS = 60.0
# A quiet machine's TCG takes this long for the probe; the library's timeouts are written for it.
_REFERENCE_SECONDS = 0.62
_FASTEST_SCALE = 0.25
_SLOWEST_SCALE = 10.0
_BUSIEST = 6.0
# isa-debug-exit ends QEMU with (value << 1) | 1.
_EXIT_VALUE = 0x10
_EXIT_STATUS = (_EXIT_VALUE << 1) | 1
_OLDEST_TCG = (8, 0)
_QEMU_REMEDY = (
    "Install QEMU: apt-get install qemu-system-x86 (on Debian 12 from bookworm-backports: "
    "apt-get install -t bookworm-backports qemu-system-x86)"
)
_TRUSTED_KVM_MODULES = ("kvm_intel", "kvm_amd")


class Accelerator(StrEnum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True)
class Acceleration:
    """The accelerator to use and how slow it is.

    Args:
        accelerator: the choice.
        time_scale: factor for every timeout; 1 is TCG on a quiet machine of 2026.
    """

    accelerator: Accelerator
    time_scale: float

    def seconds(self, nominal: float) -> float:
        """So many seconds of a quiet machine under TCG, in seconds of this one as busy as it is now."""
        queue = os.getloadavg()[0] / (os.cpu_count() or 1)
        return nominal * self.time_scale * min(max(queue, 1.0), _BUSIEST)


def spinning_boot_sector() -> bytes:
    """512 bytes for the BIOS: count 10^8 down to nought, then leave QEMU through `isa-debug-exit`."""
    code = bytes.fromhex(
        "fa"  # cli
        "66b900e1f505"  # mov ecx, 100000000
        "6649"  # dec ecx
        "75fc"  # jnz back to dec
        f"b0{_EXIT_VALUE:02x}"  # mov al, value
        "e6f4"  # out 0xf4, al
        "f4"  # hlt
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


def qemu_version(program: str = "qemu-system-x86_64") -> tuple[int, ...]:
    """QEMU's version, such as (10, 0, 2).

    Raises:
        MissingProgramError: there is no QEMU.
        UserError: it does not say a version.
    """
    find_program(program, _QEMU_REMEDY)
    said = run([program, "--version"], timeout=30).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise UserError(f"'{program} --version' says no version but: {said.strip()!r}.")
    return tuple(int(part) for part in found.groups())


def check_qemu(version: tuple[int, ...], accelerator: Accelerator) -> None:
    """Refuse a QEMU that miscomputes.

    QEMU 7's TCG leaves wrong flags after `cmpxchg16b`; kernels of Debian 13 panic at random places on it.

    Raises:
        UserError: with the way to a newer one.
    """
    if accelerator is Accelerator.TCG and version[:2] < _OLDEST_TCG:
        shown = ".".join(map(str, version))
        raise UserError(
            f"QEMU {shown} miscomputes without KVM (cmpxchg16b): guests panic at random. "
            "Version 8 or newer is needed.",
            _QEMU_REMEDY,
        )


def find_acceleration(
    wanted: Accelerator | None = None, *, cache: Path | None = None
) -> Acceleration:
    """The accelerator for this machine, probed once for each QEMU and kernel.

    Args:
        wanted: the one to use; by default $BOOTC_BUILD_ACCEL, or the faster that works.
        cache: folder for the finding; by default the user's cache folder.

    Raises:
        UsageError: BOOTC_BUILD_ACCEL has a value that is none.
        UserError: KVM was asked for and does not work; or QEMU is missing or miscomputes.
    """
    wanted = wanted or _wanted()
    version = qemu_version()
    key = hashlib.sha256(
        f"{version} {platform.release()} {wanted} {os.access('/dev/kvm', os.R_OK | os.W_OK)}".encode()
    ).hexdigest()[:16]
    path = (cache or cache_folder()) / f"accelerator-{key}.json"
    found = _read(path) or _probe(wanted)
    check_qemu(version, found.accelerator)
    _write(path, found)
    return found


def spin_seconds(accelerator: Accelerator, *, limit: float) -> float | None:
    """How long the probe takes, in seconds, QEMU's own start included; None if it fails or overruns the limit.

    Args:
        accelerator: what to try.
        limit: seconds after which it is given up.
    """
    with tempfile.NamedTemporaryFile(prefix="bootc-build-probe-", suffix=".img") as sector:
        sector.write(spinning_boot_sector())
        sector.flush()
        cpu = "host" if accelerator is Accelerator.KVM else "qemu64"
        argv = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", f"pc,accel={accelerator}", "-cpu", cpu, "-m", "64M"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
            *("-drive", f"if=floppy,format=raw,file={sector.name}"),
        ]
        begun = time.monotonic()
        try:
            done = run(argv, check=False, timeout=limit)
        except CommandTimeoutError:
            return None
        took = time.monotonic() - begun
    return took if done.status == _EXIT_STATUS else None


def _wanted() -> Accelerator | None:
    value = os.environ.get("BOOTC_BUILD_ACCEL", "")
    if not value:
        return None
    try:
        return Accelerator(value)
    except ValueError:
        raise UsageError(
            f"BOOTC_BUILD_ACCEL is '{value}', which is no accelerator.", "Set it to kvm or tcg."
        ) from None


def _probe(wanted: Accelerator | None) -> Acceleration:
    if wanted is Accelerator.KVM or (wanted is None and _kvm_is_promising()):
        took = spin_seconds(Accelerator.KVM, limit=_PROBE_SECONDS)
        if took is not None:
            return Acceleration(Accelerator.KVM, _scale(took))
        if wanted is Accelerator.KVM:
            raise UserError(
                "KVM does not run guest code on this machine (a probe did not come back in "
                f"{_PROBE_SECONDS:g} seconds).",
                "Do without it: unset BOOTC_BUILD_ACCEL.",
            )
    took = spin_seconds(Accelerator.TCG, limit=_TCG_PROBE_SECONDS)
    if took is None:
        raise UserError(
            "QEMU cannot run a boot sector on this machine.",
            "Try it by hand: qemu-system-x86_64 -accel tcg -nographic",
        )
    return Acceleration(Accelerator.TCG, _scale(took))


def _kvm_is_promising() -> bool:
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and any(
        Path("/sys/module", module).exists() for module in _TRUSTED_KVM_MODULES
    )


def _scale(seconds: float) -> float:
    return min(max(seconds / _REFERENCE_SECONDS, _FASTEST_SCALE), _SLOWEST_SCALE)


def _read(path: Path) -> Acceleration | None:
    try:
        data = json.loads(path.read_text())
        return Acceleration(Accelerator(data["accelerator"]), float(data["time_scale"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, found: Acceleration) -> None:
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(found)))
        temporary.replace(path)
    except OSError:
        return  # The cache only saves a second; without it the next run probes again.
