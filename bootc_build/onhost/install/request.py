"""What an installation is asked to do, and what follows from it without touching anything."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.host.kargs import Arguments, split_command_line, without
from bootc_build.onhost.install.configuration import InstallConfiguration
from bootc_build.onhost.oci.reference import TRANSPORTS, ImageReference, SignaturePolicy

BOOTLOADERS = ("bios", "uefi")
BOUND_IMAGES = ("stored", "skip", "pull")


@dataclass(frozen=True)
class BootDisk:
    """A disk that machines boot from: its device (or file), and for which firmware, of `BOOTLOADERS`."""

    path: Path
    bootloaders: tuple[str, ...]


@dataclass(frozen=True)
class InstallRequest:
    """An installation into a root directory.

    Args:
        root_path: the target.
        source: where the image is read from.
        target: what the installed system tracks for upgrades.
        root_mount_spec: the root file system as the kernel finds it (``UUID=…``); empty: no ``root=``.
        boot_mount_spec: the file system of /boot, or None when /boot is part of the root; empty: it is one of its
            own, and nothing is said of how it is mounted.
        boot_type: type of that file system.
        boot_uuid: UUID of the file system that /boot is on, by which GRUB finds it.
        root_kargs: kernel arguments that the root file system needs (``rootflags=…``).
        stateroot: name of the group of deployments that share /var.
        configuration: what the image says about its own installation.
        kargs: kernel arguments to add, after those of the image.
        karg_deletes: kernel arguments to leave out.
        bootloaders: which firmware it shall boot from, of `BOOTLOADERS`.
        disks: where first sectors and EFI system partitions are written; none for a scratch tree.
        grub_modules: what GRUB's core for BIOS needs besides, to read what /boot stands on.
        alongside: another system is in the root and stays there; its /boot goes at the end.
        root_ssh_authorized_keys: text of an authorized_keys file for root.
        bound_images: where the container images that the system binds come from, of `BOUND_IMAGES`.
        imported_layers: the target has layers that were imported already (`install.layers`).
        finalize: seal the deployment and wait for the disk; False where the caller does that.
    """

    root_path: Path
    source: ImageReference
    target: ImageReference
    root_mount_spec: str
    boot_mount_spec: str | None = None
    boot_type: str = "ext4"
    boot_uuid: str = ""
    root_kargs: tuple[str, ...] = ()
    stateroot: str = "default"
    configuration: InstallConfiguration = field(default_factory=InstallConfiguration)
    kargs: tuple[str, ...] = ()
    karg_deletes: tuple[str, ...] = ()
    bootloaders: tuple[str, ...] = field(default=BOOTLOADERS)
    disks: tuple[BootDisk, ...] = ()
    grub_modules: tuple[str, ...] = ()
    alongside: bool = False
    root_ssh_authorized_keys: str | None = None
    bound_images: str = "stored"
    imported_layers: bool = False
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


def check_stateroot(name: str) -> None:
    """Refuse what can be no directory's name, or would fall apart on the kernel's command line.

    Raises:
        UsageError: it is such.
    """
    if re.fullmatch(r"[A-Za-z0-9_.-]+", name) is None or name in (".", ".."):
        raise UsageError(
            f"'{name}' cannot be the name of a stateroot.", "Use letters, digits, '-', '_' and '.'."
        )


def kernel_arguments(request: InstallRequest, image: Sequence[str]) -> Arguments:
    """The new system's kernel command line, in upstream's order.

    Root, the install configuration's, those of the image's kargs.d; of these the deleted go; then the user's.
    """
    root = (f"root={request.root_mount_spec}",) if request.root_mount_spec else ()
    configured = _words(request.configuration.kargs)
    base = (*root, *request.root_kargs, "rw", *configured, *image)
    deletes = (*request.configuration.karg_deletes, *request.karg_deletes)
    return (*without(base, deletes), *_words(request.kargs))


def _words(texts: Sequence[str]) -> Arguments:
    return tuple(part for text in texts for part in split_command_line(text))


def uuid_of_spec(spec: str) -> str:
    """The UUID in ``UUID=…``.

    Raises:
        UserError: GRUB cannot find a file system by anything else.
    """
    kind, equals, value = spec.partition("=")
    if kind != "UUID" or not equals or not value:
        raise UserError(
            f"GRUB cannot find /boot by '{spec}'.",
            "Give --boot-mount-spec (or --root-mount-spec, where there is no separate /boot) as UUID=...",
        )
    return value


def fstab(existing: str, boot_mount_spec: str, boot_type: str = "ext4") -> str:
    """The image's fstab with a line for /boot, in place of any that it had.

    Args:
        existing: the image's.
        boot_mount_spec: the file system of /boot.
        boot_type: its type.

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
    return "\n".join([*kept, f"{boot_mount_spec} /boot {boot_type} {options} 0 2"]) + "\n"


def root_ssh_tmpfiles(authorized_keys: str) -> str:
    """A tmpfiles.d file that gives root the keys at boot, where it has none yet."""
    encoded = base64.b64encode(authorized_keys.encode()).decode()
    return (
        f"d /root/.ssh 0700 root root -\nf~ /root/.ssh/authorized_keys 0600 root root - {encoded}\n"
    )
