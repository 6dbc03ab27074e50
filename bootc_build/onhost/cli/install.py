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
from bootc_build.onhost.cli.install_request import chosen_bootloaders, located, requested
from bootc_build.onhost.cli.output import TextProgress, say
from bootc_build.onhost.errors import UsageError, UserError

if TYPE_CHECKING:
    from bootc_build.onhost.install.request import InstallRequest

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

    wanted, configuration = requested(args, args.device)
    for key, value in (
        ("root-mount-spec", configuration.root_mount_spec),
        ("boot-mount-spec", configuration.boot_mount_spec),
    ):
        if value is not None:
            say(
                f"warning: install.{key} is not used by to-disk, which makes the file systems itself."
            )
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
    loaders = chosen_bootloaders(args, configuration)
    chosen = bootloader.supported() if loaders is None else loaders
    disk.install_to_disk(target, replace(wanted, bootloaders=chosen), TextProgress())
    return _done(wanted, args.device)


def _to_filesystem(args: argparse.Namespace) -> int:
    from bootc_build.onhost.install import filesystem, takeover, target  # noqa: PLC0415

    wanted, configuration = requested(args, args.root_path)
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
    wanted = located(args, wanted, configuration, found)
    filesystem.check_request(wanted)
    if args.replace == "alongside":
        takeover.check_firmware(wanted, esp_is_mounted=found.esp_is_mounted)
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
    from bootc_build.onhost.install import leftovers, target  # noqa: PLC0415

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
    status = _to_filesystem(args)
    if args.cleanup and args.replace == "alongside":
        leftovers.request_removal(root)
    return status


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


def _done(wanted: "InstallRequest", where: Path) -> int:
    print(f"Installed {wanted.target.display} to {where}")
    return 0
