"""``bootc-build lint``: what would not survive import, boot or upgrade in an image."""

import argparse
import json

from bootc_build.cli.output import StderrProgress
from bootc_build.image.lint import LintedImage, lint_image
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.lint.registry import check_names
from bootc_build.onhost.lint.render import finding_lines, lint_list, report_data, summary_lines
from bootc_build.tools.rootless import enter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="an image in local storage")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to show what was found"
    )
    parser.add_argument(
        "--fatal-warnings", action="store_true", help="fail on warnings, not on fatal findings only"
    )
    parser.add_argument(
        "--skip",
        metavar="NAME",
        action="append",
        default=[],
        help="a lint to leave out (repeatable)",
    )
    parser.add_argument("--no-truncate", action="store_true", help="show every path of a finding")
    parser.add_argument(
        "--list", action="store_true", help="show the lints that there are, and end"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Lint; 1 when something is fatal."""
    if args.list:
        _show_list(args.format)
        return 0
    if args.image is None:
        raise UsageError("No image was named.", "For example: bootc-build lint os:v1")
    check_names(args.skip)
    enter(args.given)
    progress.step(f"Linting {args.image}")
    linted = lint_image(args.image, args.skip)
    if args.format == "json":
        print(json.dumps({"image": args.image, **report_data(linted.report)}, indent=2))
    else:
        _show(linted, all_paths=args.no_truncate)
    fatal = linted.report.findings if args.fatal_warnings else linted.report.fatal
    return 1 if fatal else 0


def _show(linted: LintedImage, *, all_paths: bool) -> None:
    for found in linted.report.findings:
        print(*finding_lines(found, all_paths=all_paths, step_of=linted.step_of), sep="\n")
    print(*summary_lines(linted.report), sep="\n")
    if linted.report.fatal:
        print(f"Checks failed: {len(linted.report.fatal)}")


def _show_list(shape: str) -> None:
    lints = lint_list()
    if shape == "json":
        print(json.dumps(lints, indent=2))
        return
    for lint in lints:
        print(f"{lint['name']:22} {lint['type']:8} {lint['description']}")
