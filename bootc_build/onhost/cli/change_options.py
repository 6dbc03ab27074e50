"""Options that upgrade, switch and rollback share: progress for machines, and soft reboots."""

import argparse

from bootc_build.onhost.cli.json_progress import JsonProgress, parse_progress_fd
from bootc_build.onhost.cli.output import TextProgress
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Declare ``--quiet`` and ``--progress-fd``."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--progress-fd", metavar="FD", help="write progress as lines of JSON to this open pipe"
    )


def chosen_progress(args: argparse.Namespace) -> Progress:
    """The listener that the options ask for.

    Raises:
        UsageError: the file descriptor cannot be used.
    """
    text = TextProgress(quiet=args.quiet)
    if args.progress_fd is None:
        return text
    return JsonProgress(parse_progress_fd(args.progress_fd), text)


def add_soft_reboot(parser: argparse.ArgumentParser) -> None:
    """Declare ``--soft-reboot``."""
    parser.add_argument(
        "--soft-reboot",
        choices=("required", "auto"),
        help="required fails, because no system here is capable of a soft reboot; auto changes nothing: "
        "with --apply, the reboot is a regular one",
    )


def check_soft_reboot(args: argparse.Namespace, deployment: str) -> None:
    """Refuse a soft reboot that is required, before anything is done: no system of ours is capable of it.

    Args:
        args: what was given.
        deployment: the role of what would be booted: "staged" or "rollback".

    Raises:
        UserError: it is required.
    """
    if args.soft_reboot == "required":
        raise UserError(
            f"Soft reboot was required but {deployment} deployment is not soft-reboot capable",
            "Leave it out: with --apply, the reboot is a regular one.",
        )
