"""``bootc install``: lay the image that this runs in down as a system."""

import argparse
from pathlib import Path

from bootc_build.onhost.cli.output import TextProgress
from bootc_build.onhost.errors import UsageError, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="install_verb", metavar="VERB", required=True)
    filesystem = verbs.add_parser(
        "to-filesystem",
        help="install into an empty file system or directory that somebody else made",
        description="Install into an empty file system or directory that somebody else made.",
    )
    filesystem.add_argument("root_path", type=Path, metavar="ROOT_PATH", help="the target")
    filesystem.add_argument(
        "--source-imgref",
        required=True,
        metavar="REF",
        help="where the image is read from, with its transport: oci:/path:tag, docker://host/name:tag",
    )
    filesystem.add_argument(
        "--root-mount-spec",
        required=True,
        metavar="SPEC",
        help="the root file system, as the kernel shall find it: UUID=...",
    )
    filesystem.add_argument(
        "--boot-mount-spec",
        metavar="SPEC",
        help="the file system of /boot, when it has one of its own: UUID=...",
    )
    filesystem.add_argument(
        "--skip-finalize",
        action="store_true",
        help="neither seal the deployment nor wait for the disk: the caller does",
    )
    _target_arguments(filesystem)
    _system_arguments(filesystem)


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
    # Upstream's old spelling of the default.
    parser.add_argument(
        "--target-no-signature-verification", action="store_true", help=argparse.SUPPRESS
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
        "--stateroot", default="default", metavar="NAME", help="default: %(default)s"
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
        "--bootloader-target",
        metavar="LIST",
        help="firmware to boot from: bios, uefi or both with a comma (default: all there are)",
    )


def run(args: argparse.Namespace) -> int:
    """Install."""
    from bootc_build.onhost.install import bootloader, filesystem, request  # noqa: PLC0415
    from bootc_build.onhost.oci.reference import (  # noqa: PLC0415
        CONTAINER_POLICY,
        INSECURE,
        ImageReference,
    )

    policy = CONTAINER_POLICY if args.enforce_container_sigpolicy else INSECURE
    source = ImageReference.parse_transport_qualified(args.source_imgref)
    target = (
        request.target_reference(args.target_imgref, args.target_transport, policy)
        if args.target_imgref
        else ImageReference(source.transport, source.name, policy)
    )
    wanted = request.InstallRequest(
        root_path=args.root_path.absolute(),
        source=source,
        target=target,
        root_mount_spec=args.root_mount_spec,
        boot_mount_spec=args.boot_mount_spec or None,
        stateroot=args.stateroot,
        kargs=tuple(args.karg),
        karg_deletes=tuple(args.karg_delete),
        bootloaders=_bootloaders(args.bootloader_target, bootloader.supported()),
        root_ssh_authorized_keys=_read_keys(args.root_ssh_authorized_keys),
        finalize=not args.skip_finalize,
    )
    filesystem.install_to_filesystem(wanted, TextProgress())
    print(f"Installed {target.display} to {args.root_path}")
    return 0


def _bootloaders(text: str | None, supported: tuple[str, ...]) -> tuple[str, ...]:
    if text is None:
        return supported
    wanted = tuple(text.split(","))
    for each in wanted:
        if each not in supported:
            raise UsageError(
                f"'{each}' is no firmware that this machine type boots from.",
                f"--bootloader-target takes: {','.join(supported)}",
            )
    return wanted


def _read_keys(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"The SSH keys cannot be read: {error}.") from error
