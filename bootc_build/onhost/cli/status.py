"""``bootc status``: show what is booted, queued and kept for rollback."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bootc_build.onhost.errors import UsageError

if TYPE_CHECKING:
    import argparse

_FORMATS = ("humanreadable", "yaml", "json")
# Both name the one version that there is.
_FORMAT_VERSIONS = (0, 1)


class Options(NamedTuple):
    """What is asked for; ``format`` is one of `_FORMATS`, or None for what suits the output."""

    format: str | None = None
    format_version: int = 1
    booted: bool = False
    verbose: bool = False


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Declare the arguments."""
    import argparse  # noqa: PLC0415 - see `plain_options`

    parser.add_argument(
        "--format", choices=_FORMATS, help="default: humanreadable on a terminal, else yaml"
    )
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format-version",
        type=int,
        default=1,
        metavar="N",
        help="version of the document; 1 is the only one, and 0 another name of it",
    )
    parser.add_argument("--booted", action="store_true", help="only what is booted")
    parser.add_argument("-v", "--verbose", action="store_true", help="more, for people")


def plain_options(arguments: Sequence[str]) -> Options | None:
    """Read the plain forms of the arguments, as argparse would; None where argparse has to.

    For the speed of what scripts and people call most: argparse takes longer than the rest.
    """
    options = Options()
    formats = {f"--format={name}": name for name in _FORMATS}
    for argument in arguments:
        if argument == "--json":
            options = options._replace(format=options.format or "json")
        elif argument in formats:
            options = options._replace(format=formats[argument])
        elif argument == "--booted":
            options = options._replace(booted=True)
        elif argument in ("-v", "--verbose"):
            options = options._replace(verbose=True)
        else:
            return None
    return options


def run(args: "argparse.Namespace") -> int:
    """Print the document."""
    chosen = args.format or ("json" if args.json else None)
    return show(Options(chosen, args.format_version, args.booted, args.verbose))


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def show(options: Options) -> int:
    """Print the document.

    Raises:
        UsageError: there is no such version of it.
    """
    if options.format_version not in _FORMAT_VERSIONS:
        raise UsageError(
            f"Unsupported format version: {options.format_version}.", "Use --format-version=1."
        )
    from bootc_build.onhost.host.running import read_running_host  # noqa: PLC0415

    host = read_running_host(_warn)
    if options.booted:
        host = host.booted_only()
    chosen = options.format or ("humanreadable" if sys.stdout.isatty() else "yaml")
    if chosen == "json":
        import json  # noqa: PLC0415 - each format needs a module of its own

        text = json.dumps(host.to_dict(), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        text += "\n"
    elif chosen == "yaml":
        from bootc_build.onhost.cli.yaml_text import to_yaml  # noqa: PLC0415

        text = to_yaml(host.to_dict())
    else:
        from bootc_build.onhost.host import render  # noqa: PLC0415

        text = render.human(host, verbose=options.verbose)
    sys.stdout.write(text)
    return 0
