"""What differs between the architectures that guests have: the seam for others than x86_64."""

from dataclasses import dataclass

from bootc_build.onhost.errors import UsageError


@dataclass(frozen=True)
class Platform:
    """An architecture as QEMU emulates it.

    Args:
        machine_type: QEMU's `-machine`.
        cpu: QEMU's `-cpu` without hardware acceleration: the fastest that Debian boots on.
        display: the device of its screen.
        tpm: the device of its TPM.
        console: what Linux calls the first serial port.
        has_bios: it can start without UEFI.
        has_generation_id: a restored guest can be told that it is another one now.
    """

    machine_type: str
    cpu: str
    display: str
    tpm: str
    console: str
    has_bios: bool
    has_generation_id: bool


_PLATFORMS = {
    # qemu64 boots Debian six seconds sooner than max does under TCG.
    "x86_64": Platform(
        *("q35", "qemu64", "VGA", "tpm-crb", "ttyS0"), has_bios=True, has_generation_id=True
    ),
    "aarch64": Platform(
        *("virt", "cortex-a57", "virtio-gpu-pci", "tpm-tis-device", "ttyAMA0"),
        has_bios=False,
        has_generation_id=False,
    ),
}


# QEMU's names of the architectures, by the OCI's.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def platform_of(architecture: str) -> Platform:
    """The platform of an architecture, by QEMU's name of it.

    Raises:
        UsageError: it is none that machines can have.
    """
    if architecture not in _PLATFORMS:
        raise UsageError(
            f"'{architecture}' is no architecture of machines.",
            f"These are: {', '.join(_PLATFORMS)}.",
        )
    return _PLATFORMS[architecture]
