"""``bootc edit``: apply changes to the host's specification."""

import argparse
import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bootc_build.onhost import process
from bootc_build.onhost.cli.output import TextProgress, say
from bootc_build.onhost.cli.queued import print_queued
from bootc_build.onhost.errors import UserError

if TYPE_CHECKING:
    from bootc_build.onhost.host.document import Host

_EDITORS = ("nano", "vim", "vi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-f", "--filename", type=Path, metavar="FILE", help="read the new document from a file"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Edit."""
    from bootc_build.onhost.host import edit  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415
    from bootc_build.onhost.host.running import (  # noqa: PLC0415
        read_running_host,
        require_booted_host,
    )

    require_booted_host()
    # The lock is not held while somebody sits in an editor; what changed meanwhile is noticed.
    old = read_running_host(say)
    new = edit.parse_spec(_parsed(_text(args.filename) if args.filename else _edited(old)))
    if new == old.spec:
        print("Edit cancelled, no changes made.")
        return 0
    edit.check_transition(old.spec, new)
    with open_for_change(say) as system:
        done = edit.apply_spec(system, old.spec, new, TextProgress(quiet=args.quiet))
    if isinstance(done, bool):
        print(f"Next boot: {'rollback' if done else 'current'} deployment")
    else:
        print_queued(done)
    return 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text: {error}.", "Write it in UTF-8.") from error


def _parsed(text: str) -> object:
    import yaml  # noqa: PLC0415

    try:
        document: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"The specification is not valid YAML: {error}.") from error
    return document


def _edited(host: "Host") -> str:
    """What the user's editor makes of the present document."""
    from bootc_build.onhost.cli.yaml_text import to_yaml  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", prefix="bootc-", suffix=".yaml") as file:
        file.write(to_yaml(host.to_dict()))
        file.flush()
        command = [*_editor(), file.name]
        with process.running(command, stdin=None) as editor:
            status = editor.wait()
        if status != 0:
            raise UserError(f"The editor {command[0]} failed with status {status}.")
        # By its name: editors write a new file in place of the old one.
        return _text(Path(file.name))


def _editor() -> list[str]:
    if chosen := shlex.split(os.environ.get("EDITOR", "")):
        return chosen
    for name in _EDITORS:
        if Path("/usr/bin", name).exists():
            return [name]
    raise UserError(
        "$EDITOR is unset, and no backup editor found", "Set EDITOR, or use: bootc edit -f FILE"
    )
