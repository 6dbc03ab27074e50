"""The arguments of ``bootc install``'s verbs, as upstream spells them."""

import argparse
from pathlib import Path

from bootc_build.onhost.install.configuration import BLOCK_SETUPS, BOOTLOADERS, FILESYSTEMS
from bootc_build.onhost.install.request import BOUND_IMAGES


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare all of them."""
    verbs = parser.add_subparsers(dest="install_verb", metavar="VERB", required=True)
    _to_disk(verbs)
    _to_filesystem(verbs)
    _to_existing_root(verbs)
    finalize = _verb(
        verbs, "finalize", "check an installation before its file systems are unmounted"
    )
    finalize.add_argument("root_path", type=Path, metavar="ROOT_PATH", help="the installed root")
    configuration = _verb(
        verbs, "print-configuration", "print the merged install configuration as JSON"
    )
    configuration.add_argument("--all", action="store_true", help="with kernel arguments too")


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=summary, description=f"{summary.capitalize()}.")


def _to_disk(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    disk = _verb(verbs, "to-disk", "partition a disk and install to it; everything on it is lost")
    disk.add_argument("device", type=Path, metavar="DEVICE", help="a disk, for example /dev/sdb")
    disk.add_argument("--wipe", action="store_true", help="lose what is on the disk")
    disk.add_argument(
        "--block-setup",
        choices=BLOCK_SETUPS,
        help="how the root is laid on the disk: direct (default), or encrypted with a key in this machine's TPM",
    )
    disk.add_argument("--filesystem", choices=FILESYSTEMS, help="of the root (default: ext4)")
    disk.add_argument(
        "--root-size", metavar="SIZE", help="of the root partition, like 8G (default: all there is)"
    )
    disk.add_argument("--via-loopback", action="store_true", help="DEVICE is a file")
    _source_arguments(disk)
    _target_arguments(disk)
    _system_arguments(disk)


def _to_filesystem(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    filesystem = _verb(
        verbs,
        "to-filesystem",
        "install into an empty file system or directory that somebody else made",
    )
    filesystem.add_argument("root_path", type=Path, metavar="ROOT_PATH", help="the target")
    filesystem.add_argument(
        "--root-mount-spec",
        metavar="SPEC",
        help="the root file system, as the kernel shall find it (default: UUID= of what is mounted); "
        "empty for no root=",
    )
    filesystem.add_argument(
        "--boot-mount-spec",
        metavar="SPEC",
        help="the file system of /boot, when it has one of its own (default: UUID= of what is mounted)",
    )
    filesystem.add_argument(
        "--replace",
        choices=("wipe", "alongside"),
        help="what becomes of a system that is there: it is removed, or only its /boot is",
    )
    filesystem.add_argument(
        "--acknowledge-destructive",
        action="store_true",
        help="do not wait for second thoughts when the target is the running system's root",
    )
    filesystem.add_argument(
        "--skip-finalize",
        action="store_true",
        help="neither seal the deployment nor wait for the disk: the caller does",
    )
    # For bootc-build alone, which knows that this agent is the one that it has.
    filesystem.add_argument("--imported-layers", action="store_true", help=argparse.SUPPRESS)
    _source_arguments(filesystem)
    _target_arguments(filesystem)
    _system_arguments(filesystem)


def _to_existing_root(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    existing = _verb(
        verbs,
        "to-existing-root",
        "take over the root file system of the running host; its files stay below /sysroot",
    )
    existing.add_argument(
        "root_path",
        type=Path,
        nargs="?",
        default=Path("/target"),
        metavar="ROOT_PATH",
        help="where the host's root is mounted (default: %(default)s)",
    )
    existing.add_argument(
        "--replace",
        choices=("wipe", "alongside"),
        default="alongside",
        help="what becomes of the host's files (default: %(default)s)",
    )
    existing.add_argument(
        "--acknowledge-destructive", action="store_true", help="do not wait for second thoughts"
    )
    existing.add_argument(
        "--cleanup",
        action="store_true",
        help="remove at the first boot what the old system was made of; what belongs to people stays",
    )
    _source_arguments(existing)
    _target_arguments(existing)
    _system_arguments(existing)


def _source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source-imgref",
        metavar="REF",
        help="where the image is read from, with its transport: oci:/path:tag, docker://host/name:tag "
        "(default: what this container was made from)",
    )


def _target_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target-imgref",
        metavar="REF",
        help="the image that the installed system tracks; the source when not given",
    )
    parser.add_argument(
        "--target-transport",
        default="registry",
        metavar="TRANSPORT",
        help="transport of --target-imgref, where that has none in front (default: %(default)s)",
    )
    parser.add_argument(
        "--enforce-container-sigpolicy",
        action="store_true",
        help="upgrades of the installed system need a signature that policy.json accepts",
    )
    # Upstream's old spellings of the defaults.
    parser.add_argument(
        "--target-no-signature-verification", action="store_true", help=argparse.SUPPRESS
    )
    parser.add_argument("--skip-fetch-check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--run-fetch-check",
        action="store_true",
        help="make sure first that the tracked image can be fetched from here",
    )


def _system_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--karg", action="append", default=[], metavar="ARG", help="add a kernel argument"
    )
    parser.add_argument(
        "--karg-delete",
        action="append",
        default=[],
        metavar="ARG",
        help="leave out a kernel argument of the image (NAME or NAME=VALUE)",
    )
    parser.add_argument(
        "--stateroot", metavar="NAME", help="group of deployments (default: default)"
    )
    parser.add_argument(
        "--root-ssh-authorized-keys",
        type=Path,
        metavar="FILE",
        help="give root these SSH keys at the first boot",
    )
    parser.add_argument(
        "--generic-image",
        action="store_true",
        help="install every boot loader that the machine type has, and leave its firmware alone "
        "(both are so in any case)",
    )
    parser.add_argument(
        "--disable-selinux", action="store_true", help="boot the installed system without SELinux"
    )
    parser.add_argument(
        "--bound-images",
        choices=BOUND_IMAGES,
        default="stored",
        help="container images that the system binds: copied from podman's storage here, left out "
        "until the first upgrade, or pulled (default: %(default)s)",
    )
    parser.add_argument(
        "--bootloader",
        choices=BOOTLOADERS,
        help="grub (default), or none to install no boot loader",
    )
    parser.add_argument(
        "--bootloader-target",
        metavar="LIST",
        help="firmware to boot from: bios, uefi or both with a comma (default: all there are)",
    )
    # Upstream's, for a file of bootupd's, which is not used here.
    parser.add_argument("--bootupd-skip-boot-uuid", action="store_true", help=argparse.SUPPRESS)
