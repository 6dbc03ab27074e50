"""``bootc-build diff``: how two images, or two disks, differ."""

import argparse
import dataclasses
import json

from bootc_build.cli.output import StderrProgress
from bootc_build.inspection.compare import compare
from bootc_build.inspection.document import VERSION, document
from bootc_build.inspection.render import difference_lines
from bootc_build.inspection.target import inspect
from bootc_build.onhost.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    for name in ("old", "new"):
        parser.add_argument(
            name,
            metavar=f"{name.upper()}",
            help=f"the {name} image in local storage, or the {name} disk file",
        )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to show it"
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 when there are differences, or parts that could not be read",
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Compare, and print."""
    found = []
    for target in (args.old, args.new):
        progress.detail(f"Looking into {target}")
        found.append(document(inspect(target)))
    old, new = found
    if old["kind"] != new["kind"]:
        raise UsageError(
            f"'{args.old}' is of the kind {old['kind']}, '{args.new}' of the kind {new['kind']}.",
            "Compare two images, or two disks.",
        )
    differences = compare(old, new)
    notes = [
        {"of": which, "note": note}
        for which, each in (("old", old), ("new", new))
        for note in each["notes"]
    ]
    if args.format == "json":
        plain = [dataclasses.asdict(each) for each in differences]
        print(
            json.dumps(
                {"version": VERSION, "kind": old["kind"], "differences": plain, "notes": notes},
                indent=2,
            )
        )
    else:
        for line in difference_lines(differences):
            print(line)
        for note in notes:
            print(f"Note on the {note['of']} one: {note['note']}")
    # What could not be read may differ.
    return 1 if (differences or notes) and args.exit_code else 0
