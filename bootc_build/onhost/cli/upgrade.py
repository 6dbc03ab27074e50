"""``bootc upgrade``: download and queue an updated image."""

import argparse
import json
from typing import TYPE_CHECKING

from bootc_build.onhost.cli.change_options import (
    add_progress,
    add_soft_reboot,
    check_soft_reboot,
    chosen_progress,
)
from bootc_build.onhost.cli.output import say
from bootc_build.onhost.cli.queued import print_queued

if TYPE_CHECKING:
    from bootc_build.onhost.host import upgrade


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_progress(parser)
    add_soft_reboot(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="say whether there is an update; fetch nothing"
    )
    what.add_argument("--apply", action="store_true", help="reboot into the update")
    what.add_argument(
        "--download-only",
        action="store_true",
        help="download and stage the update, but let no reboot use it",
    )
    parser.add_argument(
        "--from-downloaded",
        action="store_true",
        help="let the next reboot use what --download-only brought; fetch nothing",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="queue the newest image even if it did not boot here before",
    )
    parser.add_argument(
        "--format",
        choices=("human", "json"),
        default="human",
        help="how --check says what it found",
    )
    parser.add_argument("--tag", help="follow another tag of the tracked image")


def run(args: argparse.Namespace) -> int:
    """Upgrade."""
    _check_combination(args)
    progress = chosen_progress(args)
    check_soft_reboot(args, "staged")
    from bootc_build.onhost.host import upgrade  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change, reboot  # noqa: PLC0415

    with open_for_change(say) as system:
        if args.from_downloaded:
            print(upgrade.release_downloaded(system))
            wants_reboot = True
        elif args.check:
            _print_found(upgrade.check(system, upgrade.tracked(system, args.tag)), args.format)
            wants_reboot = False
        else:
            done = upgrade.upgrade(
                system,
                upgrade.tracked(system, args.tag),
                download_only=args.download_only,
                progress=progress,
                retry_failed=args.retry_failed,
            )
            if done.message:
                print(done.message)
            if done.queued is not None:
                print_queued(done.queued)
                if args.download_only:
                    print(upgrade.DOWNLOAD_ONLY)
            if done.changes is not None:
                print(done.changes.display)
            # As it is now: what was queued before may have been dropped.
            staged = system.sysroot.staged()
            wants_reboot = staged is not None and not staged.locked
    # Outside the block: the lock is free for what writes the boot entries at shutdown.
    if args.apply and wants_reboot:
        reboot()
    return 0


def _check_combination(args: argparse.Namespace) -> None:
    from bootc_build.onhost.errors import UsageError  # noqa: PLC0415

    for option in ("check", "download_only", "tag", "retry_failed"):
        if args.from_downloaded and getattr(args, option):
            spelled = f"--{option.replace('_', '-')}"
            raise UsageError(
                f"--from-downloaded does not go with {spelled}: it releases what is queued, as it is."
            )
    if args.check and args.retry_failed:
        raise UsageError("--retry-failed does not go with --check, which queues nothing.")
    if args.format == "json" and not args.check:
        raise UsageError("--format=json goes with --check only.")
    if args.soft_reboot and args.check:
        raise UsageError("--soft-reboot does not go with --check, which changes nothing.")


def _print_found(found: "upgrade.Found", form: str) -> None:
    if form == "json":
        print(json.dumps(found.to_dict(), indent=2))
        return
    if found.update is None:
        print(f"No changes in: {found.image.skopeo}")
        if found.withdrawn is not None:
            print(
                f"It is the booted image again; {found.withdrawn.manifest_digest} is still queued, "
                "and dropped by: bootc upgrade"
            )
        return
    print(f"Update available for: {found.image.skopeo}")
    if found.update.config.version is not None:
        print(f"  Version: {found.update.config.version}")
    print(f"  Digest: {found.update.manifest_digest}")
    if found.changes is not None:
        print(found.changes.display)
    for line in found.verdict.lines() if found.verdict is not None else ():
        print(line)
    if found.failed is not None:
        from bootc_build.onhost.host.upgrade import failed_message  # noqa: PLC0415 - loaded already

        print(failed_message(found.image, found.failed))
