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
    inspect = verbs.add_parser(
        "inspect",
        help="show the kernel and the kernel arguments of an image",
        description="Show the kernel and the kernel arguments of an image.",
    )
    inspect.add_argument(
        "--rootfs", type=Path, default=Path("/"), help="the root to look at (default: %(default)s)"
    )
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as --format json")
    form.add_argument("--format", choices=("humanreadable", "yaml", "json"), help="for programs")


def run(args: argparse.Namespace) -> int:
    """Lint, or inspect."""
    return _inspect(args) if args.container_verb == "inspect" else _lint(args)


def _inspect(args: argparse.Namespace) -> int:
    from bootc_build.onhost.host.inspect import inspect_root  # noqa: PLC0415

    found = inspect_root(args.rootfs)
    chosen = args.format or ("json" if args.json else "humanreadable")
    if chosen == "json":
        import json  # noqa: PLC0415

        print(json.dumps(found.to_dict(), indent=2))
    elif chosen == "yaml":
        import yaml  # noqa: PLC0415

        yaml.safe_dump(found.to_dict(), sys.stdout, sort_keys=False)
    else:
        for line in found.lines():
            print(line)
    return 0


def _lint(args: argparse.Namespace) -> int:
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
