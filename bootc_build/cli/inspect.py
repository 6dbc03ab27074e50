"""``bootc-build inspect``: what is in an image or a disk."""

import argparse
import json

from bootc_build.cli.output import StderrProgress
from bootc_build.inspection.document import document
from bootc_build.inspection.render import lines
from bootc_build.inspection.target import inspect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "target", metavar="IMAGE|DISK", help="an image in local storage, or a disk file"
    )
    parser.add_argument(
        "--packages", action="store_true", help="list every package (JSON always does)"
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to show it"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Look, and print."""
    progress.detail(f"Looking into {args.target}")
    found = inspect(args.target)
    if args.format == "json":
        print(json.dumps(document(found), indent=2))
    else:
        print(*lines(found, packages=args.packages), sep="\n")
    return 0
