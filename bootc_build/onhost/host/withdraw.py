"""Take a queued image back that its registry took back: the tag names again what is booted."""

from typing import TYPE_CHECKING

from bootc_build.onhost.host import kargs
from bootc_build.onhost.host.cleanup import clean_up
from bootc_build.onhost.host.next_boot import announce, digest_of
from bootc_build.onhost.host.stage import Queued, arguments_for, stage

if TYPE_CHECKING:
    from bootc_build.onhost.host.booted import BootedSystem
    from bootc_build.onhost.oci.reference import ImageReference
    from bootc_build.onhost.ostree.deployment import Deployment
    from bootc_build.onhost.progress import Progress
    from bootc_build.onhost.pull import PulledImage


def withdraw(
    system: "BootedSystem",
    staged: "Deployment",
    image: "ImageReference",
    pulled: "PulledImage",
    *,
    progress: "Progress",
    hold: bool,
) -> tuple[Queued | None, str]:
    """Drop what is queued, because the tracked image is the booted one again.

    Kernel arguments that the owner changed meanwhile are queued with the booted image instead.

    Args:
        system: the running system, its lock held.
        staged: what is queued.
        image: what is tracked.
        pulled: what that is now: the booted image.
        progress: hears of the steps.
        hold: keep what is queued instead from being booted.

    Returns:
        What is queued now, if anything is, and what was dropped, for people.

    Raises:
        UserError: libostree cannot.
    """
    message = (
        f"{image.display} is the booted image again: what was queued is dropped "
        f"({digest_of(system.sysroot.repo, staged)})."
    )
    arguments = arguments_for(system, pulled.merge_commit)
    if sorted(arguments) != sorted(kargs.of_deployment(system.slots.booted.options)):
        return stage(system, image, pulled, progress=progress, hold=hold), message
    kept = [each for each in system.sysroot.deployments() if not each.staged]
    system.sysroot.write_order(kept)
    clean_up(system.sysroot)
    announce(system.sysroot)
    return None, message
