"""What an image must have to become a disk, looked at before anything is written. All faults at once."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootc_build.disk.trees import Trees
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.host.kernel_file import HEAD_BYTES, whole_length
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
# Architecture -> what UEFI starts from a disk that it knows nothing of (UEFI specification, 3.5.1.1).
EFI_PROGRAMS = {"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}


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


def check_boot_loader(image: str, installed: Trees, architecture: str) -> None:
    """Require what firmware starts in what the image's installer left.

    Raises:
        NotBootableError: names everything that is missing.
    """
    first = installed.esp / "EFI/BOOT" / EFI_PROGRAMS[architecture]
    needed = {f"/boot/efi/EFI/BOOT/{first.name}": first}
    if architecture == "amd64":
        needed |= {
            f"/boot/{path.relative_to(installed.boot)}": path
            for path in (installed.core_image(), installed.boot_image())
        }
    faults = [
        f"its installer left no {name}" for name, path in needed.items() if not path.is_file()
    ]
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
        with (kernel / "vmlinuz").open("rb") as file:
            expected = whole_length(file.read(HEAD_BYTES))
        if (kernel / "vmlinuz").stat().st_size < expected:
            yield f"its kernel {kernel.name} is not whole: its header tells of {expected} bytes"
        if not (kernel / "initramfs.img").exists():
            yield f"its kernel {kernel.name} has no /usr/lib/modules/{kernel.name}/initramfs.img"
