"""``bootc-build doctor``: what this machine lacks, all at once."""

import argparse
import dataclasses
import json
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.doctor.examine import examine
from bootc_build.doctor.findings import Finding, Level, failed, installation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder that disks would be written to (default: .)",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to show it"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Look at everything; 1 when something that is needed is missing."""
    progress.step("Looking at this machine")
    findings = examine(args.output)
    if args.format == "json":
        print(json.dumps([dataclasses.asdict(each) for each in findings], indent=2))
    else:
        _show(findings, everything=args.verbose > 0)
    return 1 if failed(findings) else 0


def _show(findings: list[Finding], *, everything: bool) -> None:
    for each in findings:
        if each.level is Level.OK and not everything:
            continue
        print(f"{each.level.upper():8} {each.name}: {each.fact}")
        if each.needed_for and each.level is not Level.OK:
            print(f"{'':8} needed for: {each.needed_for}")
        if each.remedy:
            print(f"{'':8} {each.remedy}")
    fine = sum(each.level is Level.OK for each in findings)
    print(f"{fine} of {len(findings)} checks are fine" + ("" if everything else " (-v shows them)"))
    if command := installation(findings):
        print(f"All that is not installed: {command}")
