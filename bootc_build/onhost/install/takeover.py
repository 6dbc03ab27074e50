"""Take over a root file system that another system boots from, without a moment at which nothing boots.

The new system is laid out beside the old one, whose /boot stays as it is. Then the new boot loader's files
are made in a folder of their own, change places with the old ones by rename, and the disk's first sectors
and EFI system partition are written. Only after that the old kernels go. The rest of the old system stays,
and is below /sysroot of the new one.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import firmware
from bootc_build.onhost.install.request import BootDisk

if TYPE_CHECKING:
    from bootc_build.onhost.install.request import InstallRequest

_NEW: Final = ".bootc-install"
_OLD_SUFFIX: Final = ".before-bootc"
# What of /boot belongs to the new system, or to the disk.
_OURS: Final = frozenset({"ostree", "grub", "boot", "efi", "lost+found", "bootc.env"})


def check(root: Path) -> None:
    """Make sure that a root can be taken over.

    Raises:
        UserError: an ostree system is in it, or its boot entries are in the way.
    """
    if (root / "sysroot/ostree").exists() or (root / "ostree/repo").exists():
        raise UserError(
            f"{root} already holds a system that was deployed by ostree.",
            "Run on that system: bootc switch IMAGE",
        )
    loader = root / "boot/loader"
    if loader.is_dir() and not loader.is_symlink():
        raise UserError(
            f"{loader} has boot entries of the old system, which would be lost.",
            "Move that directory away if the old system need not boot any more, then try again.",
        )


def check_firmware(wanted: "InstallRequest", *, esp_is_mounted: bool) -> None:
    """Make sure that firmware will find the new boot loader, as the old one's files go.

    Raises:
        UserError: there is no disk to write it to.
    """
    found_by_files = esp_is_mounted and "bios" not in wanted.bootloaders
    if wanted.disks or not wanted.bootloaders or found_by_files:
        return
    raise UserError(
        f"{wanted.root_path} is not the root of a file system, so no disk is known to write the boot loader to; nothing "
        "was changed.",
        "Mount the file system itself there; or the EFI system partition at /boot/efi, and give "
        "--bootloader-target uefi.",
    )


def replace_boot(wanted: "InstallRequest", boot: Path) -> None:
    """Make the new system the one that boots, then remove the old system's files from /boot.

    Raises:
        UserError: the boot loader cannot be made; the old one is still in place.
    """
    # Late, because the two need each other: this one is a step of that.
    from bootc_build.onhost.install.filesystem import lay_down_boot_loader  # noqa: PLC0415

    if not wanted.bootloaders:
        return
    new = boot / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o755)
    lay_down_boot_loader(wanted, new)
    os.sync()
    grub = boot / "grub"
    old = boot / f"grub{_OLD_SUFFIX}"
    if grub.exists():
        shutil.rmtree(old, ignore_errors=True)
        grub.rename(old)
    (new / "grub").rename(grub)
    if (new / "boot").is_symlink() and not (boot / "boot").exists():
        (new / "boot").rename(boot / "boot")
    _write_firmware(wanted, boot, new)
    remove_old(boot)


def _write_firmware(wanted: "InstallRequest", boot: Path, new: Path) -> None:
    mounted = os.path.ismount(boot / "efi")
    esp = new / "efi"
    if "uefi" in wanted.bootloaders and (mounted or not wanted.disks):
        shutil.copytree(esp, boot / "efi", dirs_exist_ok=True)
    for disk in wanted.disks:
        # The core image was moved; the EFI system partition's files are still in the new folder.
        if "bios" in disk.bootloaders:
            firmware.write(BootDisk(disk.path, ("bios",)), boot, esp_is_mounted=mounted)
        if "uefi" in disk.bootloaders and not mounted:
            firmware.write(BootDisk(disk.path, ("uefi",)), new, esp_is_mounted=False)


def remove_old(boot: Path) -> None:
    """Remove from /boot what is not the new system's; other file systems mounted there are left alone."""
    for entry in sorted(boot.iterdir()):
        if entry.name in _OURS or entry.name.startswith("loader") or os.path.ismount(entry):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def wipe(root: Path) -> None:
    """Remove everything from a file system, and nothing of others.

    Raises:
        UserError: something is mounted below it.
    """
    device = root.stat().st_dev
    for directory, names, _files in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink() and path.stat().st_dev != device:
                if path in (root / "boot", root / "boot/efi", root / "efi"):
                    continue
                raise UserError(
                    f"{path} is mounted below the target.", f"Unmount it: umount {path}"
                )
        names[:] = [each for each in names if Path(directory, each).lstat().st_dev == device]
    _empty(root)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if os.path.ismount(entry):
            _empty(entry)
        elif entry.is_dir() and not entry.is_symlink():
            _empty(entry)
            if not any(entry.iterdir()):
                entry.rmdir()
        else:
            entry.unlink()
