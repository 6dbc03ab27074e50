"""Keep the container images that deployments bind: brought before a deployment is queued, removed after the last."""

from typing import TYPE_CHECKING

from bootc_build.onhost.bound import storage
from bootc_build.onhost.bound.spec import bound_images
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot


def images_of(sysroot: "Sysroot", commit: str) -> tuple[str, ...]:
    """The container images that a commit binds.

    Raises:
        UserError: a link or a file of it is wrong.
    """
    from bootc_build.onhost.ostree.files import CommitTree  # noqa: PLC0415 - libostree takes time

    return bound_images(CommitTree(sysroot.repo, commit))


def fetch(sysroot: "Sysroot", commit: str, progress: Progress) -> None:
    """Bring what a commit binds; to be done before it is queued, so that it never boots without.

    Raises:
        UserError: one cannot be had, there is no podman, a file is wrong.
    """
    images = images_of(sysroot, commit)
    storage.check_podman(images)
    storage.pull(sysroot.path, images, progress)


def prune(sysroot: "Sysroot") -> int:
    """Remove what no deployment binds any more; how many went.

    Raises:
        UserError: podman cannot.
    """
    needed: set[str] = set()
    for deployment in sysroot.deployments():
        try:
            needed.update(images_of(sysroot, deployment.checksum))
        except UserError:
            return 0  # what a damaged deployment needs is unknown: everything stays
    return storage.prune(sysroot.path, sorted(needed))
