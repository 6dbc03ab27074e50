"""Bring an image to the running system; where there is no room for it, make some of what nobody needs."""

from bootc_build.onhost import pull
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.cleanup import tidy
from bootc_build.onhost.host.preflight import deployment_bytes
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Progress
from bootc_build.onhost.pull import PulledImage
from bootc_build.onhost.space import NoSpaceError


def bring(system: BootedSystem, image: ImageReference, progress: Progress) -> PulledImage:
    """Have an image in the repository; see `pull.pull`.

    Raises:
        UserError: not found, not allowed, no space even so, damaged.
    """
    repo = system.sysroot.repo
    # What would be fetched and then not be queued for want of room is not fetched at all.
    spare = deployment_bytes(system.sysroot, system.slots.booted)
    try:
        return pull.pull(repo, image, progress=progress, spare=spare)
    except NoSpaceError:
        # What the last upgrade replaced is still there, until somebody finds the time.
        if not tidy(system.sysroot):
            raise
        progress.step("Removed what no deployment needs any more, to make room")
        return pull.pull(repo, image, progress=progress, spare=spare)
