"""``bootc container``: what a container build runs to check the image that it makes."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="container_verb", metavar="VERB", required=True)
    lint = verbs.add_parser(
        "lint",
        help="find what would not survive import, boot or upgrade",
        description="Find what would not survive import, boot or upgrade; "
        "for RUN bootc container lint at the end of a Containerfile.",
    )
    lint.add_argument(
        "--rootfs", type=Path, default=Path("/"), help="the root to look at (default: %(default)s)"
    )
    lint.add_argument("--fatal-warnings", action="store_true", help="fail on warnings too")
    lint.add_argument("--list", action="store_true", help="print the lints instead of running them")
    lint.add_argument(
        "--skip", action="append", default=[], metavar="LINT", help="leave a lint out"
    )
    lint.add_argument("--no-truncate", action="store_true", help="show every path")


def run(args: argparse.Namespace) -> int:
    """Lint."""
    from bootc_build.onhost.lint import render  # noqa: PLC0415
    from bootc_build.onhost.lint.model import RootKind  # noqa: PLC0415
    from bootc_build.onhost.lint.registry import lint_root  # noqa: PLC0415
    from bootc_build.onhost.lint.root import Root  # noqa: PLC0415

    if args.list:
        import yaml  # noqa: PLC0415

        yaml.safe_dump_all(render.lint_list(), sys.stdout, sort_keys=False)
        return 0
    kind = RootKind.RUNNING if args.rootfs == Path("/") else RootKind.ALTERNATIVE
    report = lint_root(Root(args.rootfs), kind, args.skip)
    for found in report.findings:
        for line in render.finding_lines(found, all_paths=args.no_truncate):
            print(line)
    for line in render.summary_lines(report):
        print(line)
    if report.fatal or (args.fatal_warnings and report.warnings):
        sys.stdout.flush()
        count = len(report.fatal) + (len(report.warnings) if args.fatal_warnings else 0)
        print(f"error: Checks failed: {count}", file=sys.stderr)
        return 1
    return 0
