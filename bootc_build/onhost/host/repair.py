"""Fetch damaged objects again, by digest, from the images that the deployments came from.

What is damaged is taken out of the repository only when the image's source has answered with the very manifest that
is wanted. From then on the objects are missing instead of wrong, until the layers that hold them have come; ended in
between, the next repair goes on there. Deployments are hard links to the objects, so their files are replaced after
that, each by a rename: the running system sees the old content or the new one. Boot entries are not touched.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.status import tracked_image
from bootc_build.onhost.oci.refnames import IMAGE_PREFIX, LAYER_PREFIX, layer_ref
from bootc_build.onhost.ostree.metadata import ImageMetadata, load_image_metadata
from bootc_build.onhost.progress import Progress

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.deployment import Deployment
    from bootc_build.onhost.ostree.sysroot import Sysroot


@dataclass(frozen=True)
class _Plan:
    """What is to be done, decided before anything is touched.

    Attributes:
        layers: refs of layers that have damaged objects.
        images: refs of damaged images that no deployment was made from.
        deployments: one of each damaged image.
    """

    layers: tuple[str, ...]
    images: tuple[str, ...]
    deployments: tuple["Deployment", ...]


@dataclass(frozen=True)
class Mended:
    """What could not be done: images that could not be fetched, files that could not be replaced."""

    unfetched: tuple[str, ...]
    unreplaced: tuple[str, ...]


def mend_objects(sysroot: "Sysroot", names: Collection[str], progress: Progress) -> Mended:
    """Replace damaged objects by whole ones.

    Args:
        sysroot: opened for writing and locked.
        names: of the objects, as their files in the repository are called.
        progress: hears of the layers that are fetched.
    """
    from bootc_build.onhost.ostree.mend import drop_objects, relink  # noqa: PLC0415 - takes time

    repo = sysroot.repo
    plan = _plan(sysroot, names)

    def take_out() -> None:
        for ref in (*plan.layers, *plan.images):
            repo.set_ref(ref, None)
        drop_objects(repo, names)

    unfetched = []
    for deployment in plan.deployments:
        try:
            _fetch(sysroot, deployment, take_out, progress)
        except UserError as error:
            where = f"{deployment.checksum[:12]}.{deployment.serial}"
            text = f"The image of deployment {where} cannot be fetched again: {error.fact} {error.remedy}"
            unfetched.append(text.rstrip())
            continue
        take_out = _nothing  # what has just come is whole
    if not plan.deployments:
        take_out()
    unreplaced = [
        f"{path} cannot be replaced"
        for each in sysroot.deployments()
        for path in relink(repo, each.checksum, sysroot.path / each.path, names)
    ]
    os.sync()
    return Mended(tuple(unfetched), tuple(unreplaced))


def _nothing() -> None:
    """Done already."""


def _plan(sysroot: "Sysroot", names: Collection[str]) -> _Plan:
    from bootc_build.onhost.ostree.mend import Reach  # noqa: PLC0415 - libostree takes time

    repo = sysroot.repo
    reach = Reach(repo, names)
    layers = [ref for ref, commit in repo.refs(LAYER_PREFIX).items() if reach.touches(commit)]
    found: dict[str, Deployment] = {}
    for deployment in sysroot.deployments():
        metadata = _metadata(sysroot, deployment)
        own = {layer_ref(each.digest) for each in metadata.manifest.layers} if metadata else set()
        if reach.touches(deployment.checksum) or own.intersection(layers):
            found.setdefault(deployment.checksum, deployment)
    deployed = {each.checksum for each in sysroot.deployments()}
    images = [
        ref
        for ref, commit in repo.refs(IMAGE_PREFIX).items()
        if commit not in deployed and reach.touches(commit)
    ]
    return _Plan(tuple(layers), tuple(images), tuple(found.values()))


def _metadata(sysroot: "Sysroot", deployment: "Deployment") -> ImageMetadata | None:
    try:
        return load_image_metadata(sysroot.repo, deployment.checksum)
    except UserError:
        return None


def _fetch(
    sysroot: "Sysroot", deployment: "Deployment", take_out: Callable[[], None], progress: Progress
) -> None:
    from bootc_build.onhost import pull  # noqa: PLC0415 - only where something is damaged

    image = tracked_image(deployment)
    metadata = _metadata(sysroot, deployment)
    if image is None or metadata is None:
        raise UserError(
            "Its commit or its origin no longer says which image it was.",
            "Queue a whole one with: bootc upgrade, or bootc switch IMAGE",
        )
    time = sysroot.repo.commit_timestamp(deployment.checksum)
    pull.restore(sysroot.repo, image, metadata, timestamp=time, before=take_out, progress=progress)
