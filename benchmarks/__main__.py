"""``./dev bench [NAME ...]``: run benchmarks and print their ratios, one line each, on standard output."""

import argparse
import importlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.interruption import unwind_on_signals
from bootc_build.onhost.process import run

NAMES = ("image", "disk", "mkosi", "importer", "memory", "merge", "upgrade", "status", "harness")


@dataclass(frozen=True)
class Settings:
    """What every benchmark gets.

    Attributes:
        image: a bootable image in local storage.
        rounds: counted runs of each side.
        scratch: an empty folder on a real disk; removed afterwards.
    """

    image: str
    rounds: int
    scratch: Path


def main() -> int:
    """Run the named benchmarks (all by default); status 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--image", default="localhost/bootc-build/debian:trixie")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("TMPDIR", "/var/tmp")  # /tmp may be RAM
    unwind_on_signals()
    missed = 0
    try:
        if run(["buildah", "inspect", "--type", "image", args.image], check=False).status != 0:
            print(f"building {args.image} first", file=sys.stderr)
            run(["bootc-build", "base", "-t", args.image])
        for name in args.names or NAMES:
            module = importlib.import_module(f"benchmarks.{name}")
            with tempfile.TemporaryDirectory(prefix="bootc-bench-") as scratch:
                for result in module.measure_all(Settings(args.image, args.rounds, Path(scratch))):
                    print(result, flush=True)
                    missed += "MISSED" in str(result)
    except UserError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
