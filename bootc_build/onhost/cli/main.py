"""Entry point of ``bootc``: parse, dispatch, and turn errors into messages and exit statuses.

Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted (143 by SIGTERM). Only the verb that
was asked for is imported: a host may be slow, and ``status`` is run often.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from bootc_build import __version__
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.interruption import unwind_on_signals

# Verb -> what `bootc --help` says of it. Each is the module of that name in this package.
VERBS = {
    "upgrade": "download and queue an updated image",
    "switch": "track another image, and queue it",
    "rollback": "boot the previous system next",
    "status": "show what is booted, queued and kept for rollback",
    "install": "install the running image",
    "container": "work on an image while it is built",
}
_ALIASES = {"update": "upgrade"}


class Verb(Protocol):
    """What each verb's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit status."""


def _verb(name: str) -> Verb:
    return cast("Verb", importlib.import_module(f"bootc_build.onhost.cli.{name}"))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The command line.

    Args:
        only: declare the arguments of this verb alone, which spares importing the others.
    """
    parser = argparse.ArgumentParser(
        prog="bootc",
        description="Boot, upgrade and roll back a system that is shipped as a container image.",
    )
    parser.add_argument("--version", action="version", version=f"bootc {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        aliases = [alias for alias, verb in _ALIASES.items() if verb == name]
        sub = verbs.add_parser(
            name, aliases=aliases, help=summary, description=summary.capitalize() + "."
        )
        if only is None or only == name:
            _verb(name).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bootc`` with ``argv`` (the process's own by default) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    first = next((each for each in arguments if not each.startswith("-")), "")
    name = _ALIASES.get(first, first)
    args = build_parser(name if name in VERBS else None).parse_args(arguments)
    unwind_on_signals()
    try:
        return _verb(_ALIASES.get(args.verb, args.verb)).run(args)
    except UserError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
