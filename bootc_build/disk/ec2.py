"""What EC2 asks of a disk beyond being bootable: drivers, a serial console, somebody who fetches the keys.

Source: the EC2 user guide's requirements for instances of the Nitro system (NVMe, ENA, nvme_core.io_timeout).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from bootc_build.onhost.errors import UserError

SERIAL_CONSOLE = "console=ttyS0,115200n8"
# The largest value: a volume that does not answer for a while comes back, and an error would end the system.
_IO_TIMEOUT = "nvme_core.io_timeout=4294967295"
_NO_CLOUD_INIT = "cloud-init=disabled"


class CloudInit(StrEnum):
    """What ``--cloud-init`` may say."""

    IMAGE = "image"
    NONE = "none"


class NotForEc2Error(UserError):
    """An image lacks what EC2 asks of it."""

    def __init__(self, image: str, faults: Iterable[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(
            f"Image '{image}' would not serve on EC2 (--type ami):{lines}",
            "Start its Containerfile from a base image made with: bootc-build base --variant cloud",
        )


def check_root(
    image: str, root: Path, cloud_init: CloudInit, initramfs_files: Callable[[], str | None]
) -> None:
    """Require EC2's drivers, ssh, and cloud-init unless it is not wanted.

    Args:
        image: its name, for the message.
        root: its file system.
        cloud_init: whether it is wanted.
        initramfs_files: gives a listing of the initramfs, or None if there is no way to; asked only where the
            kernel does not decide it.

    Raises:
        NotForEc2Error: names everything that is missing.
    """
    faults = [*_driver_faults(root, initramfs_files), *_login_faults(root, cloud_init)]
    if faults:
        raise NotForEc2Error(image, faults)


def kernel_arguments(kargs: Sequence[str], *, ec2: bool, cloud_init: CloudInit) -> tuple[str, ...]:
    """The user's kernel arguments, and those that EC2 and ``--cloud-init none`` want besides.

    Args:
        kargs: the user's; a value of his stays.
        ec2: the disk goes there.
        cloud_init: whether it is wanted.
    """
    more = []
    if ec2:
        # Without consoles of the user's own, the serial one is among the default ones.
        consoles = [karg for karg in kargs if karg.startswith("console=")]
        if consoles and not any(karg.startswith("console=ttyS0") for karg in consoles):
            more.append(SERIAL_CONSOLE)
        more += [] if _is_set(_IO_TIMEOUT, kargs) else [_IO_TIMEOUT]
    if cloud_init is CloudInit.NONE and not _is_set(_NO_CLOUD_INIT, kargs):
        more.append(_NO_CLOUD_INIT)
    return (*kargs, *more)


def _is_set(argument: str, kargs: Sequence[str]) -> bool:
    return any(karg.startswith(argument.partition("=")[0] + "=") for karg in kargs)


def _driver_faults(root: Path, initramfs_files: Callable[[], str | None]) -> Iterator[str]:
    kernel = next(path.parent for path in root.glob("usr/lib/modules/*/vmlinuz"))
    builtin = kernel / "modules.builtin"
    built_in = builtin.read_text() if builtin.exists() else ""
    if "/nvme.ko" not in built_in:
        files = initramfs_files()
        if files is None:
            yield "whether its initramfs has the NVMe driver (nvme) cannot be seen without lsinitrd (package dracut-core)"
        elif "/nvme.ko" not in files:
            yield f"its initramfs has no NVMe driver (nvme), so that the kernel {kernel.name} finds no root"
    modules = kernel / "kernel/drivers/net/ethernet/amazon/ena"
    if "/ena.ko" not in built_in and not list(modules.glob("ena.ko*")):
        yield f"its kernel {kernel.name} has no driver for EC2's network cards (ena)"


def _login_faults(root: Path, cloud_init: CloudInit) -> Iterator[str]:
    if not (root / "usr/sbin/sshd").exists():
        yield "it has no ssh server (package openssh-server)"
    if cloud_init is CloudInit.NONE:
        return
    if not (root / "usr/bin/cloud-init").exists():
        yield (
            "it has no cloud-init (package cloud-init), so no key would arrive; "
            "for keys of the disk's own: --cloud-init none --root-ssh-authorized-keys FILE"
        )
    elif (root / "etc/cloud/cloud-init.disabled").exists():
        yield "cloud-init is switched off in it (/etc/cloud/cloud-init.disabled)"
