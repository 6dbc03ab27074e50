"""Entry point of ``bootc``: parse, dispatch, and turn errors into messages and exit statuses.

Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted (143 by SIGTERM). Only the verb that
was asked for is imported: a host may be slow, and ``status`` is run often. Its plain forms do without
argparse, which would take a third of their time.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.output_streams import flush_output, forgive_closed_readers
from bootc_build.onhost.packages import find_packages

if TYPE_CHECKING:
    import argparse

# Verb -> what `bootc --help` says of it. Each is the module of that name in this package.
VERBS = {
    "upgrade": "download and queue an updated image",
    "switch": "track another image, and queue it",
    "rollback": "boot the previous system next",
    "status": "show what is booted, queued and kept for rollback",
    "edit": "apply changes to the host's specification",
    "usr-overlay": "make /usr writable until the next reboot",
    "kargs": "show or change the kernel arguments",
    "pin": "keep a deployment from being collected",
    "unpin": "let a pinned deployment be collected again",
    "diff": "compare what two deployments consist of",
    "config-diff": "show what was changed in /etc",
    "install": "install the running image",
    "container": "work on an image while it is built",
    "image": "list the stored images, copy one to podman's storage",
    "internals": "check the system's consistency, clean up",
    "completion": "print a completion script for a shell",
}
_ALIASES = {"update": "upgrade", "usroverlay": "usr-overlay"}


class Verb(Protocol):
    """What each verb's module offers."""

    def add_arguments(self, parser: "argparse.ArgumentParser") -> None:
        """Declare the verb's arguments."""

    def run(self, args: "argparse.Namespace") -> int:
        """Do it; the exit status."""


def _verb(name: str) -> Verb:
    import importlib  # noqa: PLC0415 - see the module's docstring

    return cast("Verb", importlib.import_module(f"bootc_build.onhost.cli.{name.replace('-', '_')}"))


def build_parser(only: str | None = None) -> "argparse.ArgumentParser":
    """The command line.

    Args:
        only: declare the arguments of this verb alone, which spares importing the others.
    """
    import argparse  # noqa: PLC0415 - see the module's docstring

    from bootc_build import __version__  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="bootc",
        description="Boot, upgrade and roll back a system that is shipped as a container image.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"bootc {__version__}")
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
    forgive_closed_readers()
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if arguments[:1] == ["status"]:
        from bootc_build.onhost.cli import status  # noqa: PLC0415 - see the module's docstring

        plain = status.plain_options(arguments[1:])
        if plain is not None:
            return _explained(lambda: status.show(plain))
    find_packages()
    from bootc_build.onhost.interruption import unwind_on_signals  # noqa: PLC0415

    first = next((each for each in arguments if not each.startswith("-")), "")
    name = _ALIASES.get(first, first)
    args = build_parser(name if name in VERBS else None).parse_args(arguments)
    unwind_on_signals()
    return _explained(lambda: _verb(_ALIASES.get(args.verb, args.verb)).run(args))


def _lacking_package(error: Exception) -> str | None:
    """Debian's package that has what could not be imported; None for any other error."""
    if isinstance(error, ImportError):
        return {"gi": "python3-gi", "yaml": "python3-yaml"}.get(
            (error.name or "").partition(".")[0]
        )
    return "gir1.2-ostree-1.0" if str(error).startswith("Namespace OSTree not available") else None


def _explained(verb: Callable[[], int]) -> int:
    try:
        status = verb()
        flush_output()
    except UserError as error:
        _say_error(str(error))
        return 2 if isinstance(error, UsageError) else 1
    except (ImportError, ValueError) as error:
        # A plain host that got the agent as one file need not have what the agent speaks to.
        lacking = _lacking_package(error)
        if lacking is None:
            raise
        print(
            f"error: This host lacks a part of Python that bootc needs: {error}.", file=sys.stderr
        )
        print(f"Install the package {lacking}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        _say_error(_described(error))
        return 1
    return status


def _say_error(text: str) -> None:
    with suppress(UserError):
        flush_output()  # what was printed before comes first
    print(f"error: {text}", file=sys.stderr)


def _described(error: OSError) -> str:
    """What the system refused, with the file where there is one."""
    if isinstance(error, BrokenPipeError):  # that of standard output is forgiven
        return "A program that was started ended before it had read its input."
    files = [str(each) for each in (error.filename, error.filename2) if each is not None]
    return ": ".join([*files, error.strerror or str(error)])


if __name__ == "__main__":
    sys.exit(main())
