"""Entry point of ``bootc-build``: parse, dispatch, and turn errors into messages and exit statuses.

Exit statuses: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted (143 by SIGTERM);
``run`` returns the guest command's status and 125 for its own failure. Whose output nobody reads any more
before it is done ends with 141, as by SIGPIPE.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from bootc_build import __version__
from bootc_build.cli.output import StderrProgress
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.interruption import unwind_on_signals
from bootc_build.onhost.output_streams import flush_output, has_reader, lead_nowhere

# Verb -> what `bootc-build --help` says of it. Each verb is the module of that name in this package.
VERBS = {
    "base": "build a bootable base image from distribution packages",
    "image": "build a derived image from a Containerfile, then lint it",
    "lint": "find what would not survive import, boot or upgrade in an image",
    "disk": "install an image to disk files (raw, qcow2, ami, vmdk, vhd, gce, ova)",
    "publish": "make a cloud's image of a disk (ami)",
    "run": "boot an image or a disk in QEMU",
    "test": "rehearse boot, upgrade and rollback of an image in QEMU, and run tests of your own",
    "inspect": "show what is in an image or a disk, without root or mounts",
    "diff": "show how two images, or two disks, differ",
    "doctor": "show what this machine lacks, each with its remedy",
    "cache": "show what is kept to save time, or remove it",
}
_BROKEN_PIPE = 141
_TAKE_DASHES = (["run"], ["test"])


class Verb(Protocol):
    """What each verb's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: argparse.Namespace, progress: StderrProgress) -> int:
        """Do it; the exit status."""


def _verb(name: str) -> Verb:
    return cast("Verb", importlib.import_module(f"bootc_build.cli.{name}"))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, for parsing and for the documentation's checks.

    Args:
        only: the one verb whose arguments are wanted; the others' modules are not even imported.
    """
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="show the programs' own output"
    )
    common.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    parser = argparse.ArgumentParser(
        prog="bootc-build",
        description="Ship an operating system the way applications are shipped: as an OCI container image.",
    )
    parser.add_argument("--version", action="version", version=f"bootc-build {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        sub = verbs.add_parser(
            name, help=summary, description=summary.capitalize() + ".", parents=[common]
        )
        if only in (None, name):
            _verb(name).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bootc-build`` with ``argv`` (the process's own by default) and return its exit status."""
    unwind_on_signals()
    argv = list(sys.argv[1:] if argv is None else argv)
    given = argv
    # What follows "--" is the guest's or pytest's: argparse would lose it where options stand before it.
    at = argv.index("--") if argv[:1] in _TAKE_DASHES and "--" in argv else len(argv)
    argv, after_dashes = argv[:at], argv[at + 1 :]
    parser = build_parser(argv[0] if argv and argv[0] in VERBS else None)
    args, unknown = parser.parse_known_args(argv)
    # Only a verb that hands flags on to another program takes what it does not know.
    if unknown and not hasattr(args, "passed_on"):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.passed_on, args.after_dashes, args.given = unknown, after_dashes, given
    progress = StderrProgress(-1 if args.quiet else args.verbose)
    own_failure = 125 if args.verb == "run" else 1
    try:
        status = _verb(args.verb).run(args, progress)
        flush_output()
    except UserError as error:
        print(f"bootc-build {args.verb}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else own_failure
    except KeyboardInterrupt:
        print(f"bootc-build {args.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if has_reader():
            what = "A program that was started ended before it had read its input."
            print(f"bootc-build {args.verb}: error: {what}", file=sys.stderr)
            return own_failure
        lead_nowhere(1)
        return _BROKEN_PIPE
    return status


if __name__ == "__main__":
    sys.exit(main())
