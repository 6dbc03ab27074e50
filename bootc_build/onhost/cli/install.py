"""``bootc install``: lay the image that this runs in down as a system."""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootc_build.onhost import unsynced
from bootc_build.onhost.cli.install_arguments import declare
from bootc_build.onhost.cli.output import TextProgress, say
from bootc_build.onhost.errors import UsageError, UserError

if TYPE_CHECKING:
    from bootc_build.onhost.install.configuration import InstallConfiguration
    from bootc_build.onhost.install.request import InstallRequest
    from bootc_build.onhost.install.target import Target
    from bootc_build.onhost.oci.reference import ImageReference

_WARNING_SECONDS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    declare(parser)


def run(args: argparse.Namespace) -> int:
    """Install, or answer a question about installing."""
    verbs = {
        "to-disk": _to_disk,
        "to-filesystem": _to_filesystem,
        "to-existing-root": _to_existing_root,
        "finalize": _finalize,
        "print-configuration": _print_configuration,
    }
    return verbs[args.install_verb](args)


def _print_configuration(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install.configuration import load_configuration  # noqa: PLC0415

    print(load_configuration().to_json(everything=args.all))
    return 0


def _finalize(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install.target import check_installed  # noqa: PLC0415

    for title in check_installed(args.root_path):
        print(f"Ready to boot: {title}")
    return 0


def _to_disk(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install import bootloader, disk  # noqa: PLC0415

    wanted, configuration = _request(args, args.device)
    setups = configuration.block or ("direct",)
    setup = args.block_setup or setups[0]
    if setup not in setups and configuration.block:
        raise UsageError(
            f"Block setup {setup} is not enabled in installation config.",
            f"Enabled: {', '.join(setups)}",
        )
    filesystem = args.filesystem or configuration.root_fs_type or "ext4"
    target = disk.DiskTarget(
        path=args.device,
        loopback=args.via_loopback,
        wipe=args.wipe,
        filesystem=filesystem,
        root_mib=None if args.root_size is None else disk.parse_root_size(args.root_size),
        encrypted=setup == "tpm2-luks",
    )
    loaders = _bootloaders(args, configuration)
    chosen = bootloader.supported() if loaders is None else loaders
    disk.install_to_disk(target, replace(wanted, bootloaders=chosen), TextProgress())
    return _done(wanted, args.device)


def _to_filesystem(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install import filesystem, takeover, target  # noqa: PLC0415

    wanted, configuration = _request(args, args.root_path)
    if os.geteuid() != 0:
        raise UserError("Installing needs root.", "Run the command as root or with sudo.")
    if not wanted.root_path.is_dir():
        raise UserError(f"The target {wanted.root_path} is not a directory.", "Mount or make it.")
    if args.replace is None:
        filesystem.check_target(wanted.root_path, imported_layers=args.imported_layers)
    elif args.replace == "alongside":
        takeover.check(wanted.root_path)
    if os.environ.get(unsynced.VARIABLE):
        unsynced.write_unsynced()
    found = target.inspect(wanted.root_path)
    wanted = _located(args, wanted, configuration, found)
    _warn_of_host_root(args, wanted.root_path)
    if args.replace == "wipe":
        takeover.wipe(wanted.root_path)
    wanted = replace(
        wanted, alongside=args.replace == "alongside", imported_layers=args.imported_layers
    )
    filesystem.install_to_filesystem(wanted, TextProgress())
    if not args.skip_finalize and found.root_spec is not None and not wanted.alongside:
        target.seal(wanted.root_path)
    return _done(wanted, args.root_path)


def _to_existing_root(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install import target  # noqa: PLC0415

    args.root_mount_spec = args.boot_mount_spec = None
    args.skip_finalize = args.imported_layers = False
    root: Path = args.root_path
    if target.is_host_root(root):
        # The running kernel knows best how its root is found; a name that GRUB cannot use is not taken.
        spec, words = target.inherited_root(Path("/proc/cmdline").read_text())
        if spec is not None and spec.startswith("UUID="):
            args.root_mount_spec = spec
        args.karg = [*(word for word in words if word.startswith("rd.")), *args.karg]
    elif not os.path.ismount(root):
        raise UserError(
            f"{root} is not the root file system of the host.",
            "Run the container with: --privileged --pid=host -v /:/target",
        )
    return _to_filesystem(args)


def _request(
    args: argparse.Namespace, where: Path
) -> "tuple[InstallRequest, InstallConfiguration]":
    from bootc_build.onhost import pull  # noqa: PLC0415
    from bootc_build.onhost.install import request  # noqa: PLC0415
    from bootc_build.onhost.install.configuration import load_configuration  # noqa: PLC0415

    configuration = load_configuration()
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


def _located(
    args: argparse.Namespace,
    wanted: "InstallRequest",
    configuration: "InstallConfiguration",
    found: "Target",
) -> "InstallRequest":
    """The request with what identifies its file systems: told, configured, or looked up."""
    from bootc_build.onhost.install import bootloader, firmware, request  # noqa: PLC0415

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
    boot_spec = boot or found.boot_spec
    loaders = _bootloaders(args, configuration)
    if found.disk is None:
        chosen = bootloader.supported() if loaders is None else loaders
    elif loaders == ():
        chosen = ()
    else:
        chosen = firmware.choose(
            found.disk,
            loaders,
            bootloader.supported(),
            esp_is_mounted=found.esp_is_mounted,
        )
    uuid_spec = boot_spec or found.root_spec or root_spec
    return replace(
        wanted,
        root_mount_spec=root_spec,
        root_kargs=found.root_kargs if root is None else (),
        boot_mount_spec=boot_spec,
        boot_uuid=request.uuid_of_spec(uuid_spec) if chosen else "",
        bootloaders=chosen,
        disk=found.disk,
        finalize=not args.skip_finalize,
    )


def _bootloaders(
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


def _warn_of_host_root(args: argparse.Namespace, root: Path) -> None:
    from bootc_build.onhost.install.target import is_host_root  # noqa: PLC0415

    if args.acknowledge_destructive or not is_host_root(root):
        return
    say(
        "WARNING: This operation will OVERWRITE THE BOOTED HOST ROOT FILESYSTEM and is NOT REVERSIBLE.\n"
        f"Waiting {_WARNING_SECONDS} seconds to continue; interrupt (Control-C) to cancel."
    )
    sys.stderr.flush()
    time.sleep(_WARNING_SECONDS)


def _read_keys(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"The SSH keys cannot be read: {error}.") from error


def _done(wanted: "InstallRequest", where: Path) -> int:
    print(f"Installed {wanted.target.display} to {where}")
    return 0
