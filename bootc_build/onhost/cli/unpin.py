"""``bootc unpin``: let a pinned deployment be collected again."""

import argparse

from bootc_build.onhost.cli.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "deployment",
        nargs="?",
        default="booted",
        metavar="DEPLOYMENT",
        help="which one: booted (default), rollback or its index in the boot order",
    )


def run(args: argparse.Namespace) -> int:
    """Unpin."""
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415
    from bootc_build.onhost.host.pin import set_pinned  # noqa: PLC0415

    with open_for_change(say) as system:
        deployment, changed = set_pinned(system, args.deployment, pinned=False)
    name = f"deployment {deployment.index} ({deployment.checksum[:12]}.{deployment.serial})"
    print(f"Unpinned {name}." if changed else f"{name.capitalize()} is not pinned.")
    return 0
