"""Programs of another architecture, run through qemu-user: what the kernel has been told (binfmt_misc)."""

import platform
from pathlib import Path

from bootc_build.onhost.errors import UserError

REMEDY = (
    "Install it with: apt-get install qemu-user-static binfmt-support. Where that is done, tell the kernel: "
    "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc, then /usr/lib/systemd/systemd-binfmt "
    "(or, before QEMU 9, update-binfmts --enable qemu-aarch64)."
)
_REGISTERED = Path("/proc/sys/fs/binfmt_misc")
# The OCI's word for an architecture -> the kernel's, and what qemu calls its program.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def own_architecture() -> str:
    """This machine's, in the OCI's words."""
    machine = platform.machine()
    return next((oci for oci, name in _MACHINES.items() if name == machine), machine)


def interpreter(architecture: str) -> str:
    """What runs the programs of an architecture here: "the processor", a path; empty when nothing does."""
    if architecture == own_architecture():
        return "the processor"
    machine = _MACHINES.get(architecture, architecture)
    try:
        text = (_REGISTERED / f"qemu-{machine}").read_text()
    except OSError:
        return ""
    fields = dict(line.partition(" ")[::2] for line in text.splitlines())
    # F: the kernel has the interpreter open, so it is found from inside an image too.
    usable = "enabled" in fields and "F" in fields.get("flags:", "")
    return fields.get("interpreter", "") if usable else ""


def require(architecture: str) -> None:
    """Refuse an architecture whose programs cannot be run here.

    Raises:
        UserError: says what to install.
    """
    if not interpreter(architecture):
        raise UserError(
            f"Programs for {architecture} cannot be run on this machine ({own_architecture()}).",
            REMEDY,
        )
