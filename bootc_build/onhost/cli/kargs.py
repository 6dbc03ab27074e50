"""``bootc kargs``: show or change the kernel arguments."""

import argparse
import json

from bootc_build.onhost.cli.output import say
from bootc_build.onhost.errors import UsageError

_EDITS = {
    "append": ("NAME[=VALUE]", "add an argument at the end, also a second time"),
    "append-if-missing": ("NAME[=VALUE]", "add an argument, unless it is there"),
    "delete": ("NAME[=VALUE]", "remove an argument, which has to be there"),
    "delete-if-present": ("NAME[=VALUE]", "remove an argument, if it is there"),
    "replace": ("NAME=[OLD=]NEW", "give an argument another value"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    for name, (metavar, text) in _EDITS.items():
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    parser.add_argument("--json", action="store_true", help="show them as a document")


def run(args: argparse.Namespace) -> int:
    """Show, or change."""
    wanted = {name: tuple(getattr(args, name.replace("-", "_"))) for name in _EDITS}
    if not any(wanted.values()):
        return _show(as_json=args.json)
    if args.json:
        raise UsageError("--json shows arguments; it does not go with changing them.")
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415
    from bootc_build.onhost.host.change_kargs import change_kargs  # noqa: PLC0415
    from bootc_build.onhost.host.kargs import Edits  # noqa: PLC0415

    edits = Edits(**{name.replace("-", "_"): values for name, values in wanted.items()})
    with open_for_change(say) as system:
        changed = change_kargs(system, edits)
        staged = system.sysroot.staged()
    if changed is None:
        print("No changes.")
        return 0
    print(" ".join(changed))
    say("Kernel arguments updated.")
    if staged is not None and staged.locked:
        # It stays so: no reboot uses what is only downloaded.
        say('Run "bootc upgrade --from-downloaded" to have the next reboot use them.')
    else:
        say('Run "systemctl reboot" to use them.')
    return 0


def _show(*, as_json: bool) -> int:
    from bootc_build.onhost.host.kargs import of_deployment  # noqa: PLC0415
    from bootc_build.onhost.host.running import read_slots  # noqa: PLC0415

    slots = read_slots(say)
    if as_json:
        roles = {"staged": slots.staged, "booted": slots.booted, "rollback": slots.rollback}
        print(
            json.dumps(
                {
                    role: None if each is None else list(of_deployment(each.options))
                    for role, each in roles.items()
                },
                indent=2,
            )
        )
    else:
        print(" ".join(of_deployment((slots.staged or slots.booted).options)))
    return 0
