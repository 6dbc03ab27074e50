"""What ``bootc install``'s arguments, the image's configuration and the target together ask for."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootc_build.onhost.cli.output import say
from bootc_build.onhost.errors import UsageError, UserError

if TYPE_CHECKING:
    from bootc_build.onhost.install.configuration import InstallConfiguration
    from bootc_build.onhost.install.request import InstallRequest
    from bootc_build.onhost.install.target import Target
    from bootc_build.onhost.oci.reference import ImageReference


def requested(
    args: argparse.Namespace, where: Path
) -> "tuple[InstallRequest, InstallConfiguration]":
    """What the arguments and the image's install configuration ask for, and the latter.

    Raises:
        UserError: they ask for what cannot be done, or a file cannot be read.
    """
    from bootc_build.onhost import pull  # noqa: PLC0415
    from bootc_build.onhost.install import request  # noqa: PLC0415
    from bootc_build.onhost.install.configuration import load_configuration  # noqa: PLC0415

    configuration = load_configuration()
    if configuration.skip_boot_uuid is not None:
        say(
            "warning: install.bootupd.skip-boot-uuid is ignored: GRUB is installed without bootupd."
        )
    if configuration.discoverable_partitions:
        raise UserError(
            "The install configuration asks for discoverable-partitions, which Debian's GRUB cannot do.",
            "Leave it out: the root is found by its UUID.",
        )
    source, target = _references(args, enforce=bool(configuration.enforce_container_sigpolicy))
    if args.run_fetch_check:
        pull.probe(target)
    selinux = ("selinux=0",) if args.disable_selinux else ()
    wanted = request.InstallRequest(
        root_path=where.absolute(),
        source=source,
        target=target,
        root_mount_spec="",
        stateroot=args.stateroot or configuration.stateroot or "default",
        configuration=configuration,
        kargs=(*selinux, *args.karg),
        karg_deletes=tuple(args.karg_delete),
        root_ssh_authorized_keys=_read_keys(args.root_ssh_authorized_keys),
        bound_images=args.bound_images,
    )
    return wanted, configuration


def _references(
    args: argparse.Namespace, *, enforce: bool
) -> "tuple[ImageReference, ImageReference]":
    """Where the image is read from, and what the installed system tracks."""
    from bootc_build.onhost.install import request, source  # noqa: PLC0415
    from bootc_build.onhost.oci.reference import (  # noqa: PLC0415
        CONTAINER_POLICY,
        INSECURE,
        ImageReference,
    )

    policy = CONTAINER_POLICY if args.enforce_container_sigpolicy or enforce else INSECURE
    if args.source_imgref:
        read = named = ImageReference.parse_transport_qualified(args.source_imgref)
    else:
        read, named = source.running_image()
    if args.target_imgref:
        target = request.target_reference(args.target_imgref, args.target_transport, policy)
    else:
        target = ImageReference(named.transport, named.name, policy)
    return read, target


def located(
    args: argparse.Namespace,
    wanted: "InstallRequest",
    configuration: "InstallConfiguration",
    found: "Target",
) -> "InstallRequest":
    """The request with what identifies its file systems: told, configured, or looked up."""
    from bootc_build.onhost.install import (  # noqa: PLC0415
        bootloader,
        firmware,
        request,
        underlying,
    )

    told = args.root_mount_spec
    root = told if told is not None else configuration.root_mount_spec
    boot = args.boot_mount_spec
    if boot is None:
        boot = configuration.boot_mount_spec
    if root is None and found.root_spec is None:
        raise UserError(
            f"{wanted.root_path} is not the root of a file system, so its UUID is unknown.",
            "Mount the file system there, or give --root-mount-spec UUID=...",
        )
    root_spec = found.root_spec or "" if root is None else root
    # An empty one leaves it to others to mount /boot, wherever that is.
    boot_spec = found.boot_spec if boot is None else boot
    if not boot and found.boot_spec is None:
        boot_spec = None
    loaders = chosen_bootloaders(args, configuration)
    if found.boot is None or loaders == ():
        choice = firmware.Choice(bootloader.supported() if loaders is None else loaders, ())
    else:
        choice = firmware.choose(
            found.boot,
            loaders,
            bootloader.supported(),
            esp_is_mounted=found.esp_is_mounted,
            esp_disks=found.esp_disks,
        )
    for warning in choice.warnings:
        say(f"warning: {warning}.")
    brought_up: tuple[str, ...] = ()
    if found.root is not None and found.boot is not None and root_spec:
        underlying.check_image(found.root, found.boot)
        brought_up = found.root.kernel_arguments()
    uuid_spec = boot_spec or found.boot_spec or found.root_spec or root_spec
    return replace(
        wanted,
        root_mount_spec=root_spec,
        root_kargs=(
            *(each for each in brought_up if each not in wanted.kargs),
            *(found.root_kargs if root is None else ()),
        ),
        boot_mount_spec=boot_spec,
        # A tree that becomes a disk later is `bootc-build disk`'s, whose /boot is ext4.
        boot_type=found.boot_type or "ext4",
        boot_uuid=request.uuid_of_spec(uuid_spec) if choice.bootloaders else "",
        bootloaders=choice.bootloaders,
        disks=choice.disks,
        grub_modules=() if found.boot is None else found.boot.grub_modules,
        finalize=not args.skip_finalize,
    )


def chosen_bootloaders(
    args: argparse.Namespace, configuration: "InstallConfiguration"
) -> tuple[str, ...] | None:
    """For which firmware; none at all where nobody wants a boot loader; None where it was left open."""
    from bootc_build.onhost.install import bootloader  # noqa: PLC0415

    kind = args.bootloader or configuration.bootloader or "grub"
    if kind == "none":
        return ()
    if kind != "grub":
        raise UserError(
            f"The boot loader '{kind}' cannot be installed: Debian's images boot with GRUB.",
            "Use --bootloader grub, or none if you install one yourself.",
        )
    if args.bootloader_target is None:
        return None
    supported = bootloader.supported()
    wanted = tuple(args.bootloader_target.split(","))
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
        raise UserError(f"The SSH keys in {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"The SSH keys in {path} are no text: {error}.",
            "Give a file in UTF-8, as ssh-keygen's.",
        ) from error
