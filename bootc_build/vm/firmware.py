"""Find UEFI firmware by the descriptors that distributions install for it.

The descriptors' format is QEMU's `docs/interop/firmware.json`; the search order (user, administrator,
distribution; a file of the same name hides those of later folders) is from the same document.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UserError
from bootc_build.vm.spec import Firmware

_KNOWN_PATHS = {
    Firmware.UEFI: (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ),
    Firmware.UEFI_SECURE: (
        ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
        ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ),
}

_PACKAGES = {"x86_64": "ovmf", "aarch64": "qemu-efi-aarch64"}


@dataclass(frozen=True)
class FirmwareFiles:
    """Two raw flash images: the program, and the template of its variable store."""

    code: Path
    variables: Path


def descriptor_folders() -> list[Path]:
    """Where descriptors lie, most important first."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [
        Path(config) / "qemu/firmware",
        Path("/etc/qemu/firmware"),
        Path("/usr/share/qemu/firmware"),
    ]


def find_uefi_firmware(
    firmware: Firmware,
    *,
    architecture: str = "x86_64",
    machine_type: str = "q35",
    folders: Sequence[Path] | None = None,
) -> FirmwareFiles:
    """The best installed firmware for a machine.

    Args:
        firmware: `UEFI`, or `UEFI_SECURE` for one with Secure Boot on and keys enrolled.
        architecture: QEMU's name of it.
        machine_type: QEMU's `-machine`.
        folders: where to look for descriptors, instead of the usual places.

    Raises:
        UserError: none is installed.
    """
    # As descriptors name it, with a version: "pc-q35-9.2", "virt-9.2".
    machine = f"pc-{machine_type}-0.0" if architecture == "x86_64" else f"{machine_type}-0.0"
    for descriptor in _descriptors(descriptor_folders() if folders is None else folders):
        files = _match(descriptor, firmware, architecture, machine)
        if files is not None:
            return files
    if folders is None and architecture == "x86_64":
        for code, variables in _KNOWN_PATHS.get(firmware, ()):
            if Path(code).exists() and Path(variables).exists():
                return FirmwareFiles(Path(code), Path(variables))
    raise UserError(
        f"No {firmware} firmware for {architecture} {machine_type} machines is installed.",
        f"Install it with: apt-get install {_PACKAGES.get(architecture, 'ovmf')}",
    )


def _descriptors(folders: Iterable[Path]) -> list[dict[str, Any]]:
    by_name: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.json"):
            by_name.setdefault(path.name, path)
    parsed = []
    for name in sorted(by_name):
        try:
            parsed.append(json.loads(by_name[name].read_text()))
        except (OSError, ValueError):
            continue  # An empty or broken file is how an administrator hides a descriptor.
    return parsed


def _match(
    descriptor: dict[str, Any], firmware: Firmware, architecture: str, machine: str
) -> FirmwareFiles | None:
    features = set(descriptor.get("features", ()))
    mapping = descriptor.get("mapping", {})
    fits_target = any(
        target.get("architecture") == architecture
        and any(fnmatchcase(machine, pattern) for pattern in target.get("machines", ()))
        for target in descriptor.get("targets", ())
    )
    secure = {"secure-boot", "enrolled-keys"} <= features
    plain = "secure-boot" not in features
    if (
        not fits_target
        or "uefi" not in descriptor.get("interface-types", ())
        or mapping.get("device") != "flash"
        or not (secure if firmware is Firmware.UEFI_SECURE else plain)
    ):
        return None
    code = mapping.get("executable", {})
    variables = mapping.get("nvram-template", {})
    if code.get("format") != "raw" or variables.get("format") != "raw":
        return None
    files = FirmwareFiles(Path(code["filename"]), Path(variables["filename"]))
    return files if files.code.exists() and files.variables.exists() else None
