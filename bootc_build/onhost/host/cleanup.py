"""Remove what no deployment needs: image refs, then layer refs, then old roots and objects.

Nothing that a booted, queued, rollback or pinned deployment was made of goes, so that an upgrade from
any of them still finds the layers that it shares with the new image.
"""

from typing import TYPE_CHECKING

from bootc_build.onhost import pull
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.refnames import IMAGE_PREFIX, LAYER_PREFIX, layer_ref

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot


def clean_up(sysroot: "Sysroot") -> None:
    """Remove what is no longer needed; the lock is held.

    Raises:
        UserError: libostree cannot.
    """
    repo = sysroot.repo
    deployed = {deployment.checksum for deployment in sysroot.deployments()}
    for ref, commit in repo.refs(IMAGE_PREFIX).items():
        if commit not in deployed:
            repo.set_ref(ref, None)
    needed: set[str] = set()
    for commit in deployed:
        try:
            metadata = pull.load_image_metadata(repo, commit)
        except UserError:
            # Damaged metadata: which layers it needs is unknown, so all of them stay.
            return sysroot.cleanup()
        if metadata is not None:
            needed |= {layer_ref(layer.digest) for layer in metadata.manifest.layers}
    for ref in repo.refs(LAYER_PREFIX):
        if ref not in needed:
            repo.set_ref(ref, None)
    return sysroot.cleanup()
