"""Remove what no deployment needs: refs, old roots and kernels, objects; and what killed fetches left.

Nothing that a booted, queued, rollback or pinned deployment was made of goes, so that an upgrade from
any of them still finds the layers that it shares with the new image.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import bound
from bootc_build.onhost.host.status import tracked_image
from bootc_build.onhost.oci import scratch
from bootc_build.onhost.ostree.images import drop_unneeded_refs

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot


def tidy(sysroot: "Sysroot") -> bool:
    """Remove what the last boot left over, if it did; the lock is held. Whether there was anything.

    An upgrade is queued while its predecessor's predecessor still is the rollback; only after the reboot is that
    one needed by nobody.

    Raises:
        UserError: libostree cannot.
    """
    if not _drop_refs(sysroot, keep_unfinished=True):
        return False
    _remove(sysroot)
    return True


def clean_up(sysroot: "Sysroot") -> None:
    """Remove what is no longer needed; the lock is held.

    Raises:
        UserError: libostree cannot.
    """
    scratch.sweep()
    sysroot.repo.forget_unfinished()
    _drop_refs(sysroot, keep_unfinished=False)
    _remove(sysroot)


def _drop_refs(sysroot: "Sysroot", *, keep_unfinished: bool) -> bool:
    """Whether there were any."""
    deployments = sysroot.deployments()
    images = [tracked_image(deployment) for deployment in deployments]
    # Where the metadata of some image is damaged, what it needs is unknown, and refs stay.
    with suppress(UserError):
        gone = drop_unneeded_refs(
            sysroot.repo,
            needed_images=[image for image in images if image is not None],
            deployed=[deployment.checksum for deployment in deployments],
            keep_unfinished=keep_unfinished,
        )
        return bool(gone.images or gone.layers)
    return False


def _remove(sysroot: "Sysroot") -> None:
    # Removes old roots and kernels, then objects that neither a ref nor a deployment reaches.
    sysroot.cleanup()
    # Those stay on the disk until the next time, when podman cannot.
    with suppress(UserError):
        bound.prune(sysroot)
