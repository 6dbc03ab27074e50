"""``bootc-build test``: rehearse what a machine that takes an image will go through, in virtual machines."""

import argparse
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.onhost.errors import UsageError
from bootc_build.testing.rehearsal import Outcome, Rehearsal, rehearse
from bootc_build.tools.rootless import enter
from bootc_build.vm.spec import Firmware

_EPILOG = """
The rehearsal boots the image, looks for failed units, reads 'bootc status', upgrades, restarts, rolls back,
restarts and upgrades again; what belongs to the machine (/etc, /var, users, host keys, machine id) has to stay.
FILEs are pytest files, or single tests (FILE::TEST); they have the image as the fixture bootc_image. The
verdict goes to standard output, the exit status is 0 if all is well and 1 if not. What follows -- is for pytest.
With --crash-points a table of what was tried goes to standard output instead.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; what follows "--" is not argparse's (main.py)."""
    parser.usage = "bootc-build test [OPTION…] IMAGE [FILE…] [-- PYTEST OPTION…]"
    parser.epilog = _EPILOG
    # argparse takes files for unknown arguments where an option stands before them.
    parser.set_defaults(passed_on=[])
    parser.add_argument("image", metavar="IMAGE", help="an image in local storage")
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="pytest files of your own, run after the rehearsal"
    )
    parser.add_argument(
        "--upgrade-to",
        metavar="IMAGE2",
        help="the image to upgrade to (default: IMAGE with a small layer more, made for the purpose)",
    )
    parser.add_argument(
        "--firmware",
        choices=[kind.value for kind in Firmware],
        default=Firmware.BIOS.value,
        help="of the machines (default: bios)",
    )
    parser.add_argument(
        "--memory", type=int, default=1024, metavar="MIB", help="memory in MiB (default: 1024)"
    )
    parser.add_argument(
        "--only-files", action="store_true", help="run the FILEs without the rehearsal"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit XML file")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a report for the browser, in one file"
    )
    parser.add_argument(
        "--artifacts",
        type=Path,
        metavar="DIR",
        help="keep the consoles, journals and pictures of all machines there",
    )
    parser.add_argument(
        "--shell-on-fail",
        action="store_true",
        help="when a check fails, put its machine's console on the terminal",
    )
    _add_crash_points(parser)


def _add_crash_points(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "crash points",
        "record what a machine writes while it upgrades, goes back and cleans up, and look at every state "
        "that a power cut may leave on its disk, instead of rehearsing",
    )
    group.add_argument("--crash-points", action="store_true", help="do that")
    group.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="of what is between two flushes, for each transaction (default: 150)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="for drawing samples (default: 0)")
    group.add_argument(
        "--boots",
        type=int,
        metavar="N",
        help="distinct states of each transaction that are booted as well, at most (default: 2)",
    )
    group.add_argument(
        "--output", type=Path, metavar="DIR", help="keep the recording, a table and a JUnit file"
    )
    group.add_argument(
        "--recording",
        type=Path,
        metavar="DIR",
        help="look at an earlier recording again (DIR/recording of --output)",
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Rehearse, or look at crash points; 0 if all is well."""
    if args.crash_points:
        return _crash_points(args, progress)
    _refuse_crash_point_options(args)
    files = [*args.files, *args.passed_on]
    if unknown := [one for one in files if one.startswith("-")]:
        raise UsageError(
            f"unrecognized arguments: {' '.join(unknown)}", "Options for pytest follow --."
        )
    if args.only_files and not files:
        raise UsageError("--only-files needs FILEs.", "Name your pytest files.")
    for name in files:
        _check_there(Path(name.partition("::")[0]))
    enter(args.given)
    done = rehearse(
        Rehearsal(
            image=args.image,
            upgrade_to=args.upgrade_to,
            files=files,
            built_in=not args.only_files,
            options=[*_pytest_options(args), *args.after_dashes],
            command=_command(args),
            aloud=args.verbose > 0 or args.shell_on_fail,
        ),
        progress,
    )
    for check in done.of(Outcome.FAILED):
        progress.detail(check.details)
    print(done.verdict())
    for what, path in (("report", args.html), ("machines' files", args.artifacts)):
        if path is not None:
            progress.step(f"The {what}: {path}")
    return 0 if done.passed else 1


def _check_there(file: Path) -> None:
    try:
        file.stat()
    except FileNotFoundError as error:
        raise UsageError(f"The file '{file}' does not exist.") from error
    except OSError as error:
        raise UsageError(f"The file '{file}' cannot be read: {error.strerror}.") from error


def _refuse_crash_point_options(args: argparse.Namespace) -> None:
    for option in ("samples", "seed", "boots", "output", "recording"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} goes with --crash-points.", "Add --crash-points.")


def _crash_points(args: argparse.Namespace, progress: StderrProgress) -> int:
    from bootc_build.testing.crash_points import report  # noqa: PLC0415 - not for a rehearsal
    from bootc_build.testing.crash_points.run import Wanted, explore_crash_points  # noqa: PLC0415

    if args.files or args.passed_on or args.after_dashes:
        raise UsageError("--crash-points takes no FILEs.", "Run them without --crash-points.")
    given = {name: getattr(args, name) for name in ("samples", "seed", "boots")}
    if any(value is not None and value < 0 for value in given.values()):
        raise UsageError("--samples, --seed and --boots are numbers from 0 on.")
    enter(args.given)
    wanted = Wanted(
        image=args.image,
        upgrade_to=args.upgrade_to,
        firmware=Firmware(args.firmware),
        recording=args.recording,
        output=args.output,
        junit=args.junit,
        **{name: value for name, value in given.items() if value is not None},
    )
    found = explore_crash_points(wanted, progress)
    print(report.table(found.explorations, found.booted), end="")
    return 0 if report.passed(found.explorations, found.booted) else 1


def _pytest_options(args: argparse.Namespace) -> list[str]:
    options = ["--bootc-firmware", args.firmware, "--bootc-memory", str(args.memory)]
    if args.junit is not None:
        options.append(f"--junit-xml={args.junit}")
    if args.html is not None:
        options.append(f"--bootc-report={args.html}")
    if args.artifacts is not None:
        options.append(f"--bootc-artifacts={args.artifacts}")
    if args.html is not None or args.artifacts is not None:
        options.append("--bootc-keep=all")
    if args.shell_on_fail:
        options.append("--bootc-shell-on-fail")
    return options


def _command(args: argparse.Namespace) -> list[str]:
    """What the user would type for one more of these checks."""
    command = ["bootc-build", "test", args.image]
    if args.upgrade_to is not None:
        command += ["--upgrade-to", args.upgrade_to]
    if args.firmware != Firmware.BIOS.value:
        command += ["--firmware", args.firmware]
    return command
