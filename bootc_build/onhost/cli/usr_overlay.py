"""``bootc usr-overlay``: make /usr writable until the next reboot."""

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--read-only",
        action="store_true",
        help="leave /usr read-only for everybody but who remounts it in a private mount namespace",
    )


def run(args: argparse.Namespace) -> int:
    """Have libostree mount an overlay that is gone with the next reboot."""
    from bootc_build.onhost import process  # noqa: PLC0415
    from bootc_build.onhost.host.running import require_booted_host  # noqa: PLC0415

    require_booted_host()
    # Not in a private mount namespace: everybody is meant to see the overlay.
    program = process.find_program("ostree")
    how = ["--transient"] if args.read_only else []
    os.execv(program, [program, "admin", "unlock", *how])  # noqa: S606 - replaces this process
