"""What an image must have to become a disk, looked at before anything is written. All faults at once."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.tools.binfmt import require
from bootc_build.tools.podman import LocalImage

# Architecture -> where Debian's packages put GRUB and shim, and which.
_BOOT_LOADERS = {
    "amd64": (
        ("usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
        ("usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grub-efi-amd64-signed"),
    ),
    "arm64": (
        ("usr/lib/shim/shimaa64.efi.signed", "shim-signed"),
        ("usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed", "grub-efi-arm64-signed"),
    ),
}


class NotBootableError(UserError):
    """An image lacks what a disk needs."""

    def __init__(self, image: str, faults: Iterable[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(
            f"Image '{image}' cannot be installed to a disk:{lines}",
            "Start its Containerfile from a base image made with: bootc-build base",
        )


def check_image(image: LocalImage, name: str) -> None:
    """Require the label that says an image is meant to boot, and an architecture that can be run here.

    Raises:
        NotBootableError.
        UserError: its programs, the installer among them, cannot be run on this machine.
    """
    faults = []
    if not image.is_bootc:
        faults.append("it has no label containers.bootc=1")
    if image.architecture not in _BOOT_LOADERS:
        known = " and ".join(_BOOT_LOADERS)
        faults.append(f"it is made for {image.architecture}, disks can be made for {known}")
    if faults:
        raise NotBootableError(name, faults)
    require(image.architecture)


def check_architecture(image: LocalImage, name: str, wanted: str | None) -> None:
    """Require the architecture that a configuration is for, if it says one.

    Raises:
        UsageError.
    """
    if wanted not in (None, image.architecture):
        raise UsageError(
            f"The configuration is for {wanted} ('architecture'), and image '{name}' is made for "
            f"{image.architecture}.",
            "Name an image of that architecture, or leave it out of the configuration.",
        )


def check_root(image: str, root: Path, architecture: str = "amd64") -> None:
    """Require kernel, initramfs, bootc and a boot loader in the image's file system at ``root``.

    Raises:
        NotBootableError: names everything that is missing.
    """
    faults = list(_faults(root, architecture))
    if faults:
        raise NotBootableError(image, faults)


def _faults(root: Path, architecture: str) -> Iterator[str]:
    yield from _kernel_faults(root)
    if not os.access(root / "usr/bin/bootc", os.X_OK):
        yield "it has no bootc (/usr/bin/bootc)"
    if not (root / "sysroot").is_dir():
        yield "it has no /sysroot"
    for path, package in _BOOT_LOADERS[architecture]:
        if not (root / path).exists():
            yield f"it has no /{path} (package {package})"


def _kernel_faults(root: Path) -> Iterator[str]:
    kernels = sorted(path.parent for path in root.glob("usr/lib/modules/*/vmlinuz"))
    if not kernels:
        yield "it has no kernel (/usr/lib/modules/VERSION/vmlinuz)"
    if len(kernels) > 1:
        found = ", ".join(path.name for path in kernels)
        yield f"it has {len(kernels)} kernels ({found}): one must go"
    for kernel in kernels:
        if not (kernel / "initramfs.img").exists():
            yield f"its kernel {kernel.name} has no /usr/lib/modules/{kernel.name}/initramfs.img"
