"""What an installation is asked to do, and what follows from it without touching anything."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.host.kargs import Arguments, split_command_line, without
from bootc_build.onhost.oci.reference import TRANSPORTS, ImageReference, SignaturePolicy

BOOTLOADERS = ("bios", "uefi")


@dataclass(frozen=True)
class InstallRequest:
    """An installation into an empty root directory.

    Args:
        root_path: the target.
        source: where the image is read from.
        target: what the installed system tracks for upgrades.
        root_mount_spec: the root file system as the kernel finds it (``UUID=…``).
        boot_mount_spec: the file system of /boot, or None when /boot is part of the root.
        stateroot: name of the group of deployments that share /var.
        kargs: kernel arguments to add, after those of the image.
        karg_deletes: kernel arguments to leave out.
        bootloaders: which firmware it shall boot from, of `BOOTLOADERS`.
        root_ssh_authorized_keys: text of an authorized_keys file for root.
        finalize: seal the deployment and wait for the disk; False where the caller does that.
    """

    root_path: Path
    source: ImageReference
    target: ImageReference
    root_mount_spec: str
    boot_mount_spec: str | None = None
    stateroot: str = "default"
    kargs: tuple[str, ...] = ()
    karg_deletes: tuple[str, ...] = ()
    bootloaders: tuple[str, ...] = field(default=BOOTLOADERS)
    root_ssh_authorized_keys: str | None = None
    finalize: bool = True


def target_reference(text: str, transport: str, policy: SignaturePolicy) -> ImageReference:
    """Read ``--target-imgref``: a bare name in ``transport``, or one with its transport in front.

    Raises:
        UsageError: malformed.
    """
    prefix = text.partition(":")[0]
    qualified = text.startswith("docker://") or prefix in TRANSPORTS
    if qualified and transport == "registry":
        return ImageReference.parse_transport_qualified(text, policy)
    return ImageReference.parse_cli(text, transport, policy)


def kernel_arguments(request: InstallRequest, image: Sequence[str]) -> Arguments:
    """The new system's kernel command line: root, the image's own, without the deleted, the user's."""
    base = (f"root={request.root_mount_spec}", "rw", *image)
    added = tuple(part for text in request.kargs for part in split_command_line(text))
    return (*without(base, request.karg_deletes), *added)


def fstab(existing: str, boot_mount_spec: str) -> str:
    """The image's fstab with a line for /boot, in place of any that it had.

    Raises:
        UsageError: the specification has blanks in it.
    """
    if not boot_mount_spec or any(character.isspace() for character in boot_mount_spec):
        raise UsageError(
            f"'{boot_mount_spec}' does not name a file system for /boot.", "Write UUID=..."
        )
    kept = [
        line
        for line in existing.splitlines()
        if line.lstrip().startswith("#") or line.split()[1:2] != ["/boot"]
    ]
    # A disk may answer late (a busy host, a slow array); the default of 90 seconds would end in emergency mode.
    options = "defaults,x-systemd.device-timeout=10min"
    return "\n".join([*kept, f"{boot_mount_spec} /boot ext4 {options} 0 2"]) + "\n"


def root_ssh_tmpfiles(authorized_keys: str) -> str:
    """A tmpfiles.d file that gives root the keys at boot, where it has none yet."""
    encoded = base64.b64encode(authorized_keys.encode()).decode()
    return (
        f"d /root/.ssh 0700 root root -\nf~ /root/.ssh/authorized_keys 0600 root root - {encoded}\n"
    )
