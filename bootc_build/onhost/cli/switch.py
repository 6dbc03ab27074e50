"""``bootc switch``: track another image, and queue it."""

import argparse

from bootc_build.onhost.cli.change_options import (
    add_progress,
    add_soft_reboot,
    check_soft_reboot,
    chosen_progress,
)
from bootc_build.onhost.cli.output import say
from bootc_build.onhost.cli.queued import print_queued


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="TARGET", help="the image, for example quay.io/a/os:1")
    parser.add_argument(
        "--transport",
        default="registry",
        help="where the image is: registry (default), oci, oci-archive, containers-storage, "
        "docker-archive, docker-daemon, dir",
    )
    add_progress(parser)
    add_soft_reboot(parser)
    parser.add_argument("--apply", action="store_true", help="reboot into the new image")
    parser.add_argument(
        "--retain",
        action="store_true",
        help="keep the ref of the ostree branch that the system came from",
    )
    parser.add_argument(
        "--enforce-container-sigpolicy",
        action="store_true",
        help="need a signature that policy.json accepts, now and for every upgrade",
    )
    # Upstream's old spelling of the default.
    parser.add_argument("--no-signature-verification", action="store_true", help=argparse.SUPPRESS)
    # For installers, in a system that is not booted yet.
    parser.add_argument("--mutate-in-place", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Switch."""
    from bootc_build.onhost.host import switch  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change, reboot  # noqa: PLC0415
    from bootc_build.onhost.oci.reference import (  # noqa: PLC0415
        CONTAINER_POLICY,
        INSECURE,
        ImageReference,
    )

    policy = CONTAINER_POLICY if args.enforce_container_sigpolicy else INSECURE
    target = ImageReference.parse_cli(args.target, args.transport, policy)
    if args.mutate_in_place:
        print(f"Updated {switch.mutate_in_place(target)} to pull from {target.to_origin()}")
        return 0
    progress = chosen_progress(args)
    check_soft_reboot(args, "staged")
    with open_for_change(say) as system:
        queued = switch.switch(system, target, retain=args.retain, progress=progress)
        if queued is None:
            print("Image specification is unchanged.")
        else:
            print_queued(queued)
        wants_reboot = queued is not None or system.slots.staged is not None
    # Outside the block: the lock is free for what writes the boot entries at shutdown.
    if args.apply and wants_reboot:
        reboot()
    return 0
