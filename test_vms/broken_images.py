"""Versions of the tests' operating system that do not come up, each in its own way."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

_UNITS: Final = "usr/lib/systemd/system"


def _kernel_directory(root: Path) -> Path:
    return next((root / "usr/lib/modules").glob("*/vmlinuz")).parent


def _replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _unit(root: Path, name: str, text: str, wanted_by: str) -> None:
    _replace(root / _UNITS / name, text.encode())
    link = root / _UNITS / wanted_by / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../{name}")


def damaged_kernel(root: Path) -> None:
    """The boot loader cannot load it: neither it nor the firmware knows it for a kernel."""
    kernel = _kernel_directory(root) / "vmlinuz"
    content = bytearray(kernel.read_bytes())
    for place in (0, 0x1FE):
        content[place : place + 2] = b"??"
    _replace(kernel, bytes(content))


def cut_initramfs(root: Path) -> None:
    """The kernel finds no root and panics."""
    initramfs = _kernel_directory(root) / "initramfs.img"
    _replace(initramfs, initramfs.read_bytes()[:1_000_000])


def panic(root: Path) -> None:
    """The kernel panics when it is up: there is no init."""
    _replace(root / "usr/lib/bootc/kargs.d/50-test.toml", b'kargs = ["rdinit=/no/such/init"]\n')


def failing_unit(root: Path) -> None:
    """A unit that a complete boot requires fails."""
    text = (
        "[Unit]\nDescription=The application\nBefore=boot-complete.target\n[Service]\nType=oneshot\n"
        "ExecStart=/bin/sh -c 'echo the application found no licence; exit 7'\n"
    )
    _unit(root, "application.service", text, "boot-complete.target.requires")


def failing_check(root: Path) -> None:
    """A health check of the image fails."""
    check = root / "usr/lib/bootc/health.d/required.d/10-answer"
    _replace(check, b"#!/bin/sh\necho the answer is 41\nexit 1\n")
    check.chmod(0o755)


def hang(root: Path) -> None:
    """The boot never ends."""
    text = (
        "[Unit]\nDescription=The endless one\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        "ExecStart=/bin/sleep infinity\n"
    )
    _unit(root, "endless.service", text, "multi-user.target.wants")
    # The last OnBootSec= that is given; an empty one forgets those before.
    timer = b"[Timer]\nOnBootSec=\nOnBootSec=60s\n"
    _replace(root / _UNITS / "bootc-boot-deadline.timer.d/50-test.conf", timer)


def crash(root: Path) -> None:
    """The first process crashes, and with it goes all that could notice."""
    text = (
        "[Unit]\nDescription=The one that kills\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        "ExecStart=/bin/sh -c 'kill -SEGV 1; sleep infinity'\n"
    )
    _unit(root, "crash.service", text, "multi-user.target.wants")


def frozen(root: Path) -> None:
    """The kernel panics and stays so; only the hardware watchdog runs."""
    state = "/sys/class/watchdog/watchdog0/state"
    stop = "echo 0 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger"
    text = (
        "[Unit]\nDescription=The one that freezes\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        f"ExecStart=/bin/sh -c 'until grep -qs ^active {state}; do sleep 1; done; {stop}'\n"
    )
    _unit(root, "freeze.service", text, "multi-user.target.wants")
    _replace(
        root / "usr/lib/systemd/system.conf.d/50-test.conf", b"[Manager]\nRuntimeWatchdogSec=30s\n"
    )


def emergency(root: Path) -> None:
    """A file system that is needed is not there, and systemd asks for help."""
    text = (
        "[Unit]\nBefore=local-fs.target\n"
        "[Mount]\nWhat=/no/such/device\nWhere=/var/lib/data\nType=ext4\n"
    )
    _unit(root, "var-lib-data.mount", text, "local-fs.target.requires")


def spoil(root: Path, fault: str) -> None:
    """Do what the fault of a name does; a kernel that panics restarts soon."""
    _replace(root / "usr/lib/bootc/kargs.d/10-panic.toml", b'kargs = ["panic=2"]\n')
    FAULTS[fault](root)


FAULTS: Final[dict[str, Callable[[Path], None]]] = {
    "damaged-kernel": damaged_kernel,
    "cut-initramfs": cut_initramfs,
    "panic": panic,
    "failing-unit": failing_unit,
    "failing-check": failing_check,
    "hang": hang,
    "crash": crash,
    "frozen": frozen,
    "emergency": emergency,
}
