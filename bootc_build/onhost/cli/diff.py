"""``bootc diff``: compare two deployments."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootc_build.onhost.cli.output import say

if TYPE_CHECKING:
    from bootc_build.onhost.host.diff import Differences, Side

_SHOWN_PATHS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "deployments",
        nargs="*",
        metavar="DEPLOYMENT",
        help="one or two of booted, staged, rollback or an index in the boot order "
        "(default: booted and staged; without a staged one, rollback and booted)",
    )
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to show")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every path")


def run(args: argparse.Namespace) -> int:
    """Compare."""
    from bootc_build.onhost.errors import UsageError  # noqa: PLC0415
    from bootc_build.onhost.host.diff import diff, sides  # noqa: PLC0415
    from bootc_build.onhost.host.running import read_slots  # noqa: PLC0415
    from bootc_build.onhost.ostree.sysroot_files import SysrootFiles  # noqa: PLC0415

    if len(args.deployments) > 2:  # noqa: PLR2004 - two are compared
        raise UsageError("More than two deployments cannot be compared.")
    slots = read_slots(say)
    found = diff(slots, *sides(slots, args.deployments), SysrootFiles())
    if args.format == "json":
        print(json.dumps(_document(found), indent=2))
    else:
        for line in _lines(found, shown=None if args.verbose else _SHOWN_PATHS):
            print(line)
    return 0


def _document(found: "Differences") -> dict[str, object]:
    packages = found.packages
    return {
        "from": _side(found.old),
        "to": _side(found.new),
        "packages": None
        if packages is None
        else {
            "added": packages.added,
            "removed": packages.removed,
            "changed": {name: {"from": a, "to": b} for name, (a, b) in packages.changed.items()},
        },
        "files": {
            "added": found.files.added,
            "removed": found.files.removed,
            "changed": found.files.changed,
        },
        "kernelArguments": {"added": found.arguments_added, "removed": found.arguments_removed},
    }


def _side(side: "Side") -> dict[str, object]:
    return {
        "deployment": side.name,
        "checksum": side.checksum,
        "version": side.version,
        "imageDigest": side.digest,
    }


def _lines(found: "Differences", shown: int | None) -> Iterator[str]:
    for word, side in (("From", found.old), ("To", found.new)):
        version = f", version {side.version}" if side.version is not None else ""
        yield f"{word:>4}: {side.name}{version} ({side.digest or side.checksum})"
    if found.packages is None:
        yield "Packages: unknown, for want of a package database"
    else:
        packages = [
            *(f"  + {name} {version}" for name, version in found.packages.added.items()),
            *(f"  - {name} {version}" for name, version in found.packages.removed.items()),
            *(f"  ~ {name} {a} -> {b}" for name, (a, b) in found.packages.changed.items()),
        ]
        yield from _section("Packages", packages)
    arguments = [f"  + {each}" for each in found.arguments_added]
    arguments += [f"  - {each}" for each in found.arguments_removed]
    yield from _section("Kernel arguments", arguments)
    files = [
        *(f"  + {path}" for path in found.files.added),
        *(f"  - {path}" for path in found.files.removed),
        *(f"  ~ {path}" for path in found.files.changed),
    ]
    yield from _section("Files", files, shown)


def _section(name: str, lines: list[str], shown: int | None = None) -> Iterator[str]:
    if not lines:
        yield f"{name}: the same"
        return
    yield f"{name}: {len(lines)} different"
    yield from lines[:shown]
    if shown is not None and len(lines) > shown:
        yield f"  ... and {len(lines) - shown} more: bootc diff --verbose"
