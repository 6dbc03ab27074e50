"""``bootc status``: show what is booted, queued and kept for rollback."""

import argparse
import json
import os
import sys

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.host.document import Host

# Both name the one version that there is.
_FORMAT_VERSIONS = (0, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--format",
        choices=("humanreadable", "yaml", "json"),
        help="default: humanreadable on a terminal, else yaml",
    )
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format-version",
        type=int,
        default=1,
        metavar="N",
        help="version of the document; 1 is the only one",
    )
    parser.add_argument("--booted", action="store_true", help="only what is booted")
    parser.add_argument("-v", "--verbose", action="store_true", help="more, for people")


def _read() -> Host:
    # A container that happens to run on such a host is no such host, and must not wait for libostree.
    if not os.path.exists("/run/ostree-booted"):  # noqa: PTH110 - pathlib costs
        return Host()
    from bootc_build.onhost.host.medium import is_read_only  # noqa: PLC0415
    from bootc_build.onhost.host.status import read_host  # noqa: PLC0415
    from bootc_build.onhost.ostree.sysroot_files import (  # noqa: PLC0415
        SysrootFiles,
        UnknownLayoutError,
    )

    read_only = is_read_only("/sysroot")
    files = SysrootFiles()
    try:
        return read_host(files.deployments(), files, read_only=read_only)
    except UnknownLayoutError:
        from bootc_build.onhost.ostree.sysroot import open_system  # noqa: PLC0415 - takes time

        sysroot = open_system(writing=False)
        return read_host(sysroot.deployments(), sysroot.repo, read_only=read_only)


def _yaml(host: Host) -> str:
    import yaml  # noqa: PLC0415 - only this format needs it

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(host.to_dict(), Dumper=dumper, sort_keys=False, width=10_000))


def run(args: argparse.Namespace) -> int:
    """Print the document."""
    from bootc_build.onhost.host import render  # noqa: PLC0415

    if args.format_version not in _FORMAT_VERSIONS:
        raise UsageError(
            f"Unsupported format version: {args.format_version}.", "Use --format-version=1."
        )
    host = _read()
    if args.booted:
        host = host.booted_only()
    chosen = args.format or (
        "json" if args.json else "humanreadable" if sys.stdout.isatty() else "yaml"
    )
    if chosen == "json":
        text = json.dumps(host.to_dict(), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        text += "\n"
    elif chosen == "yaml":
        text = _yaml(host)
    else:
        text = render.human(host, verbose=args.verbose)
    sys.stdout.write(text)
    return 0
