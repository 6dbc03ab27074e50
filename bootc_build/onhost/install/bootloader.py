"""Lay GRUB down in a directory that becomes /boot and the EFI system partition, without a device.

BIOS: ``grub/i386-pc/{boot.img,core.img}``; whoever makes the disk writes them into the boot sector and
the BIOS boot partition. UEFI: the signed shim and GRUB on the removable-media path, which firmware
boots without being told. Both read ``grub/grub.cfg`` of the file system that holds /boot, which is a
link to the menu that is swapped together with the boot entries.
"""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError

# All that reading the menu and the kernel takes, so that nothing is loaded from disk before the menu. btrfs and XFS: for
# a /boot that somebody else made, as the signed GRUB for UEFI has them.
_BIOS_MODULES = (
    "biosdisk", "part_gpt", "part_msdos", "ext2", "btrfs", "xfs", "normal", "configfile", "linux", "search",
    "search_fs_uuid", "search_label", "serial", "terminal", "test", "true", "loadenv", "regexp",
    "echo", "cat", "ls", "minicmd", "sleep", "reboot", "halt", "probe", "gzio", "zstd",
)  # fmt: skip
# The signed GRUB of Debian looks for its configuration here, on the partition that it came from.
_VENDOR_DIRECTORY = "EFI/debian"


# Machine (`uname -m`) to how UEFI spells it, and to GRUB's name of the platform.
_EFI = {"x86_64": ("x64", "x86_64-efi"), "aarch64": ("aa64", "arm64-efi")}


def supported(machine: str | None = None) -> tuple[str, ...]:
    """The kinds of firmware that there is a boot loader for on a machine (``uname -m``)."""
    machine = machine or platform.machine()
    return (("bios",) if machine == "x86_64" else ()) + (("uefi",) if machine in _EFI else ())


@dataclass(frozen=True)
class _Bios:
    """The image's own GRUB for BIOS."""

    modules: Path
    mkimage: Path

    def parts(self) -> list[tuple[Path, str]]:
        """What has to be there, with the package that has it."""
        return [(self.modules / "boot.img", "grub-pc-bin"), (self.mkimage, "grub-common")]


@dataclass(frozen=True)
class _Uefi:
    """The image's own signed shim and GRUB; ``suffix`` is how UEFI spells the architecture."""

    suffix: str
    shim: Path
    grub: Path
    manager: Path

    def parts(self) -> list[tuple[Path, str]]:
        """What has to be there, with the package that has it."""
        architecture = "amd64" if self.suffix == "x64" else "arm64"
        return [(self.shim, "shim-signed"), (self.grub, f"grub-efi-{architecture}-signed")]


def _bios(image_root: Path) -> _Bios:
    return _Bios(image_root / "usr/lib/grub/i386-pc", image_root / "usr/bin/grub-mkimage")


def _uefi(image_root: Path, machine: str) -> _Uefi:
    suffix, grub_platform = _EFI[machine]
    shim = image_root / "usr/lib/shim"
    return _Uefi(
        suffix=suffix,
        shim=shim / f"shim{suffix}.efi.signed",
        grub=image_root / f"usr/lib/grub/{grub_platform}-signed/grub{suffix}.efi.signed",
        manager=shim / f"mm{suffix}.efi.signed",
    )


def check(bootloaders: Sequence[str], *, image_root: Path = Path("/")) -> None:
    """Make sure that the boot loaders can be laid down.

    Args:
        bootloaders: for which firmware: ``bios``, ``uefi``.
        image_root: where the image's own boot loader packages are.

    Raises:
        UserError: the image lacks the packages, or there is no boot loader for this machine.
    """
    machine = platform.machine()
    for wanted in bootloaders:
        if wanted not in supported(machine):
            raise UserError(
                f"There is no boot loader for '{wanted}' on {machine}.",
                f"Use --bootloader-target with: {','.join(supported(machine))}",
            )
    parts = _bios(image_root).parts() if "bios" in bootloaders else []
    parts += _uefi(image_root, machine).parts() if "uefi" in bootloaders else []
    missing = [(path, package) for path, package in parts if not path.exists()]
    if missing:
        packages = " ".join(dict.fromkeys(package for _, package in missing))
        raise UserError(
            f"The image lacks what its boot loader is made of: {missing[0][0]}.",
            f"Install in the Containerfile: {packages}",
        )


def _find_boot(boot_uuid: str, prefix: str) -> str:
    return (
        f"search --no-floppy --fs-uuid --set=root {boot_uuid}\n"
        f"set prefix=($root){prefix}/grub\n"
        f"configfile ($root){prefix}/grub/grub.cfg\n"
    )


def _install_bios(parts: _Bios, boot: Path, early_text: str, modules: Sequence[str]) -> None:
    target = boot / "grub/i386-pc"
    target.mkdir(parents=True)
    early = target / "load.cfg"
    early.write_text(early_text)
    process.run(
        [
            str(parts.mkimage),
            f"--directory={parts.modules}",
            "--format=i386-pc",
            "--prefix=(,gpt1)/grub",
            f"--config={early}",
            "--compression=auto",
            f"--output={target / 'core.img'}",
            *_BIOS_MODULES,
            *modules,
        ]
    )
    early.unlink()
    shutil.copyfile(parts.modules / "boot.img", target / "boot.img")


def _install_uefi(parts: _Uefi, esp: Path, stub: str) -> None:
    suffix = parts.suffix
    for directory, shim_name in (
        ("EFI/BOOT", f"BOOT{suffix.upper()}.EFI"),
        (_VENDOR_DIRECTORY, f"shim{suffix}.efi"),
    ):
        target = esp / directory
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parts.shim, target / shim_name)
        shutil.copyfile(parts.grub, target / f"grub{suffix}.efi")
        if parts.manager.exists():
            shutil.copyfile(parts.manager, target / f"mm{suffix}.efi")
    (esp / _VENDOR_DIRECTORY / "grub.cfg").write_text(stub)


def install(
    bootloaders: Sequence[str],
    *,
    boot: Path,
    boot_uuid: str,
    prefix: str = "",
    modules: Sequence[str] = (),
    image_root: Path = Path("/"),
) -> None:
    """Lay the boot loader files down.

    Args:
        bootloaders: for which firmware: ``bios``, ``uefi``.
        boot: the directory that becomes /boot; the EFI system partition is ``efi`` in it.
        boot_uuid: UUID of the file system that /boot will be on.
        prefix: path of /boot on that file system: empty, or ``/boot`` where it is the root's.
        modules: what GRUB for BIOS needs besides, to read what that is on; the signed one for UEFI has them.
        image_root: where the image's own boot loader packages are.

    Raises:
        UserError: as `check` says, or GRUB's image cannot be made.
    """
    check(bootloaders, image_root=image_root)
    early = _find_boot(boot_uuid, prefix)
    if "bios" in bootloaders:
        _install_bios(_bios(image_root), boot, early, modules)
    if "uefi" in bootloaders:
        _install_uefi(_uefi(image_root, platform.machine()), boot / "efi", early)
    (boot / "grub").mkdir(exist_ok=True)
    menu = boot / "grub/grub.cfg"
    if not menu.is_symlink():
        menu.symlink_to("../loader/grub.cfg")


def link_boot_to_itself(boot: Path) -> None:
    """Make /boot/... name files of the file system that holds /boot, as boot entries do.

    Only for a /boot with a file system of its own; in a root file system it is so by itself.
    """
    itself = boot / "boot"
    if not itself.is_symlink():
        itself.symlink_to(".")
