"""``bootc-build cache``: what is kept to save time, and how to be rid of it."""

import argparse
import json
import time
from collections.abc import Callable

from bootc_build.cli.output import StderrProgress
from bootc_build.disk.cached import disk_shelf
from bootc_build.disk.layer_cache.layers import layer_shelf
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.shelf import Shelf, Shelved
from bootc_build.tools.sizes import in_words, parse_size
from bootc_build.vm.snapshot import snapshot_shelf

_SHELVES: dict[str, Callable[[], Shelf]] = {
    "snapshots": snapshot_shelf,
    "disks": disk_shelf,
    "layers": layer_shelf,
}
_DAY = 86400
_HOUR = 3600
_MINUTE = 60
_EPILOG = """
Snapshots are machines that have booted, so that tests need not wait for it; disks are those of images that
were booted; layers are those of images that disks were made of. All are made again when they are needed and
bounded by BOOTC_BUILD_SNAPSHOT_CACHE, BOOTC_BUILD_DISK_CACHE and BOOTC_BUILD_LAYER_CACHE. What is in use is
never removed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "clean"),
        default="show",
        help="show what is there, or remove what nobody uses (default: show)",
    )
    parser.add_argument(
        "--kind", choices=tuple(_SHELVES), help="only snapshots, disks or layers (default: all)"
    )
    parser.add_argument(
        "--unused-for",
        type=float,
        metavar="DAYS",
        help="clean only what was not used for so many days",
    )
    parser.add_argument(
        "--keep",
        metavar="SIZE",
        help="clean only until the rest of each kind takes no more than this, like 4G",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to show it"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Show or clean."""
    if args.action == "show" and (args.unused_for is not None or args.keep is not None):
        raise UsageError(
            "--unused-for and --keep say what to remove.", "Write: bootc-build cache clean …"
        )
    if args.unused_for is not None and args.keep is not None:
        raise UsageError("--unused-for and --keep exclude each other.", "Give one of them.")
    if args.unused_for is not None and not args.unused_for >= 0:
        raise UsageError(f"{args.unused_for:g} is no number of days.", "Give 0 or more.")
    found: list[tuple[str, Shelved]] = []
    for kind in [args.kind] if args.kind else _SHELVES:
        shelf = _SHELVES[kind]()
        things = shelf.things() if args.action == "show" else _clean(shelf, args)
        found += [(kind, thing) for thing in things]
    if args.format == "json":
        print(json.dumps([_data(kind, thing) for kind, thing in found], indent=2))
        return 0
    for kind, thing in found:
        print(_line(kind, thing))
    total = in_words(sum(thing.stored_bytes for _, thing in found))
    progress.step(f"{'Removed' if args.action == 'clean' else 'There are'} {len(found)}, {total}")
    return 0


def _clean(shelf: Shelf, args: argparse.Namespace) -> list[Shelved]:
    if args.keep is not None:
        return shelf.trim(parse_size(args.keep))
    return shelf.remove_unused_since(time.time() - (args.unused_for or 0) * _DAY)


def _data(kind: str, thing: Shelved) -> dict[str, object]:
    return {
        "kind": kind,
        "key": thing.key,
        "path": str(thing.path),
        "bytes": thing.stored_bytes,
        "used": round(thing.used, 3),
        "inUse": thing.in_use,
    }


def _line(kind: str, thing: Shelved) -> str:
    used = "in use" if thing.in_use else f"used {_ago(time.time() - thing.used)} ago"
    return f"{kind:9}  {thing.key}  {in_words(thing.stored_bytes):>10}  {used}"


def _ago(seconds: float) -> str:
    for unit, length in (("days", _DAY), ("hours", _HOUR), ("minutes", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
