"""``bootc config-diff``: show what in /etc was changed, and what the next boot does with it."""

import argparse
import json
from typing import TYPE_CHECKING

from bootc_build.onhost.cli.output import say

if TYPE_CHECKING:
    from bootc_build.onhost.host.config_diff import ConfigDiff


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to show")


def run(args: argparse.Namespace) -> int:
    """Compare."""
    from bootc_build.onhost.host.config_diff import config_diff  # noqa: PLC0415
    from bootc_build.onhost.host.running import read_slots, require_booted_host  # noqa: PLC0415

    require_booted_host()
    found = config_diff(read_slots(say))
    if args.format == "json":
        print(json.dumps(_document(found), indent=2))
    else:
        _show(found)
    return 0


def _document(found: "ConfigDiff") -> dict[str, object]:
    differences: list[dict[str, object]] = [
        {
            "path": f"/etc/{each.path}",
            "change": each.change.name.lower(),
            "atNextBoot": None if each.outcome is None else _camel(each.outcome.name),
            "problem": each.problem or None,
        }
        for each in found.differences
    ]
    return {"staged": found.staged, "differences": differences}


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def _show(found: "ConfigDiff") -> None:
    from bootc_build.onhost.host.etc_merge import Outcome  # noqa: PLC0415

    for each in found.differences:
        line = f"{each.change.value} /etc/{each.path}"
        plain = each.outcome in (None, Outcome.KEPT, Outcome.STAYS_REMOVED)
        if each.outcome is None or (plain and not each.problem):
            print(line)
        else:
            reason = f": {each.problem}" if each.problem else ""
            print(f"{line}  ({each.outcome.value}{reason})")
    if any(each.outcome is Outcome.CONFLICT for each in found.differences):
        say(
            "The staged deployment cannot be finalized with these conflicts, and the present one "
            "would boot again: undo the changes in /etc first."
        )
    elif not found.differences:
        say("Nothing in /etc differs from the image.")
