"""``bootc internals``: check and clean up."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bootc_build.onhost.cli.output import TextProgress, say
from bootc_build.onhost.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootc_build.onhost.host.fsck import Check
    from bootc_build.onhost.ostree.sysroot import Sysroot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="internals_verb", metavar="VERB", required=True)
    fsck = verbs.add_parser("fsck", help="check refs, images, objects, boot entries, deployments")
    fsck.add_argument("--format", choices=("humanreadable", "json"), default="humanreadable")
    fsck.add_argument(
        "--repair",
        action="store_true",
        help="fetch what is damaged again, remove what leads nowhere and half deployments",
    )
    fsck.add_argument(
        "--sysroot",
        type=Path,
        metavar="DIR",
        help="of a system that is not running (its disk's root)",
    )
    verbs.add_parser("cleanup", help="remove what no deployment needs")
    verbs.add_parser("boot-complete", help="this boot is complete: its deployment is good")
    verbs.add_parser("remove-old-system", help="after install to-existing-root --cleanup")
    fell_back = verbs.add_parser("boot-fell-back", help="keep what the boot menu fell back to")
    fell_back.add_argument("why", choices=("tries", "kernel"), help="as the boot menu says")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    if args.internals_verb == "fsck":
        return _fsck(args)
    if args.internals_verb == "boot-complete":
        return _boot_complete()
    if args.internals_verb == "boot-fell-back":
        return _boot_fell_back(args.why)
    if args.internals_verb == "remove-old-system":
        return _remove_old_system()
    return _cleanup()


def _remove_old_system() -> int:
    from bootc_build.onhost.host.running import require_booted_host  # noqa: PLC0415
    from bootc_build.onhost.install.leftovers import remove_old_system  # noqa: PLC0415
    from bootc_build.onhost.ostree.mounts import (  # noqa: PLC0415
        enter_private_mounts,
        make_writable,
    )

    require_booted_host()
    enter_private_mounts()
    make_writable("/sysroot")
    problems = remove_old_system(Path("/sysroot"))
    for each in problems:
        say(f"cannot be removed: {each}")
    return 1 if problems else 0


def _boot_complete() -> int:
    from bootc_build.onhost.host.boot_results import mark_complete  # noqa: PLC0415
    from bootc_build.onhost.host.running import require_booted_host  # noqa: PLC0415

    require_booted_host()
    mark_complete()
    return 0


def _boot_fell_back(why: str) -> int:
    from bootc_build.onhost.host.boot_results import keep_fall_back  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415

    with open_for_change(say) as system:
        failed = keep_fall_back(system, why)
    if failed is not None:
        say(f"Fell back from {failed.image} {failed.digest}: {failed.reason}")
    return 0


def _cleanup() -> int:
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415
    from bootc_build.onhost.host.cleanup import clean_up  # noqa: PLC0415

    with open_for_change(say) as system:
        clean_up(system.sysroot)
    return 0


def _fsck(args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        checks = []
        for check in _checks(args, stack):
            checks.append(check)
            if args.format == "json":
                continue
            if check.ok:
                print(f"ok: {check.name}")
            for each in check.findings:
                kind = "repaired" if each.repaired else "warning" if each.harmless else "fsck error"
                print(f"{kind}: {check.name}: {each.message}")
    failed = not all(check.ok for check in checks)
    if args.format == "json":
        document = {"ok": not failed, "checks": [check.to_dict() for check in checks]}
        print(json.dumps(document, indent=2))
    if failed:
        sys.stdout.flush()
        print("error: Encountered errors", file=sys.stderr)
    return 1 if failed else 0


def _checks(args: argparse.Namespace, stack: ExitStack) -> "Iterator[Check]":
    from bootc_build.onhost.host import boot_record  # noqa: PLC0415
    from bootc_build.onhost.host.fsck import (  # noqa: PLC0415
        Check,
        Finding,
        fsck,
        remove_dangling_entries,
    )
    from bootc_build.onhost.host.running import require_booted_host  # noqa: PLC0415

    if args.sysroot is None:
        require_booted_host()
    try:
        sysroot = _open(args, stack)
    except UserError as error:
        # libostree reads boot entries and deployments when it opens a sysroot.
        finding = Finding(error.fact)
        removed = None
        if args.repair:
            command_line = "" if args.sysroot else boot_record.read_command_line()
            removed = remove_dangling_entries(args.sysroot or Path("/"), command_line)
        if removed is None:
            yield Check("sysroot", (finding,))
            return
        yield removed
        sysroot = _open(args, stack)
    progress = TextProgress(quiet=args.format == "json")
    yield from fsck(sysroot, repair=args.repair, progress=progress)


def _open(args: argparse.Namespace, stack: ExitStack) -> "Sysroot":
    from bootc_build.onhost.ostree.sysroot import open_sysroot, open_system  # noqa: PLC0415

    if args.sysroot is not None:
        sysroot = open_sysroot(args.sysroot)
    else:
        sysroot = open_system(writing=args.repair)
    if args.repair:
        stack.enter_context(sysroot.locked())
    return sysroot
