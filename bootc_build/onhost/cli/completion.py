"""``bootc completion``: print a completion script for a shell, made from the command line as it is."""

import argparse

from bootc_build.onhost.cli import completion_scripts

_SHELLS = {
    "bash": completion_scripts.bash,
    "fish": completion_scripts.fish,
    "zsh": completion_scripts.zsh,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=sorted(_SHELLS), help="for which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from bootc_build.onhost.cli.main import build_parser  # noqa: PLC0415 - it imports this module

    print(_SHELLS[args.shell](completion_scripts.command_tree(build_parser())), end="")
    return 0
