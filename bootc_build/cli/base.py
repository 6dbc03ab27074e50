"""``bootc-build base``: a bootable base image from distribution packages."""

import argparse
import os

from bootc_build.cli.output import StderrProgress
from bootc_build.image.base import build_base
from bootc_build.image.base_plan import (
    ARCHITECTURES,
    SUITES,
    VARIANTS,
    Archive,
    check_suite,
    plan_base,
)
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.apt_sources import find_archive, read_targets
from bootc_build.tools.binfmt import own_architecture, require
from bootc_build.tools.rootless import enter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--suite", default="trixie", help=f"Debian suite: {', '.join(SUITES)} (default: trixie)"
    )
    parser.add_argument(
        "--variant", default="minimal", help=f"{', '.join(VARIANTS)} (default: minimal)"
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="archive to use instead of the one in this machine's apt configuration; "
        "a security archive is then used only with --security-mirror",
    )
    parser.add_argument("--security-mirror", metavar="URL", help="archive of security updates")
    parser.add_argument(
        "--package",
        action="append",
        default=[],
        metavar="NAME",
        help="a package to install in addition; may be repeated",
    )
    parser.add_argument(
        "--arch",
        default=own_architecture(),
        metavar="ARCH",
        help=f"{', '.join(ARCHITECTURES)}; another than this machine's takes qemu-user "
        f"(default: {own_architecture()})",
    )
    parser.add_argument(
        "-t",
        "--tag",
        help="name of the image in local storage (default: localhost/bootc-build/debian:SUITE)",
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Build it and print the image's id."""
    check_suite(args.suite)
    plan = plan_base(
        args.suite,
        args.variant,
        _archive(args),
        packages=args.package,
        tag=args.tag,
        architecture=args.arch,
    )
    require(args.arch)
    enter(args.given)
    image = build_base(plan, progress, epoch=_epoch())
    progress.step(f"Done: {plan.tag}")
    print(image)
    return 0


def _archive(args: argparse.Namespace) -> Archive:
    if args.mirror:
        return Archive(args.mirror.rstrip("/"), args.security_mirror)
    uri, security = find_archive(read_targets(), tuple(SUITES))
    return Archive(uri, args.security_mirror or security)


def _epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return None
    if not text.isdigit():
        raise UsageError(
            f"SOURCE_DATE_EPOCH is '{text}'.", "It must be a number of seconds since 1970."
        )
    return int(text)
