"""``bootc rollback``: boot the previous system next."""

import argparse

from bootc_build.onhost.cli.change_options import add_soft_reboot, check_soft_reboot
from bootc_build.onhost.cli.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--apply", action="store_true", help="reboot into it")
    add_soft_reboot(parser)


def run(args: argparse.Namespace) -> int:
    """Roll back, or take a queued rollback back."""
    from bootc_build.onhost.host.booted import open_for_change, reboot  # noqa: PLC0415
    from bootc_build.onhost.host.rollback import rollback  # noqa: PLC0415

    check_soft_reboot(args, "rollback")
    with open_for_change(say) as system:
        if system.slots.rollback_queued:
            print("notice: Reverting queued rollback state")
        queued = rollback(system)
        print(f"Next boot: {'rollback' if queued else 'current'} deployment")
    # Outside the block: the lock is free for what writes the boot entries at shutdown.
    if args.apply:
        reboot()
    return 0
