"""Images in a repository: what is stored of them, and removing what nothing needs."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import gi

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import (
    BASE_IMAGE_PREFIX,
    IMAGE_PREFIX,
    LAYER_PREFIX,
    OWN_BASE_IMAGES,
    image_ref,
    layer_ref,
)
from bootc_build.onhost.ostree.importer import META_TAR_BYTES
from bootc_build.onhost.ostree.metadata import (
    load_image_metadata,
)
from bootc_build.onhost.ostree.repo import PruneResult, Repo

gi.require_version("GLib", "2.0")


@dataclass(frozen=True)
class KnownLayers:
    """Layers that the repository has.

    Args:
        by_diff_id: their commits.
        sizes: bytes of blob and of tar, for each compressed one of which both are known.
    """

    by_diff_id: Mapping[str, str]
    sizes: tuple[tuple[int, int], ...]


def stored_images(repo: Repo) -> dict[str, str]:
    """All image refs with their merge commits."""
    return repo.refs(IMAGE_PREFIX)


def known_layers(repo: Repo) -> KnownLayers:
    """What the metadata of all stored images says of the layers that are here.

    The same layer has another blob digest when it was compressed again.
    """
    layers = repo.refs(LAYER_PREFIX)
    known: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for commit in set(stored_images(repo).values()):
        try:
            image = load_image_metadata(repo, commit)
        except UserError:
            continue  # a damaged image is no source, and no obstacle
        if image is None:
            continue
        for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=False):
            found = layers.get(layer_ref(layer.digest))
            if found is None:
                continue
            known.setdefault(diff_id, found)
            if layer.digest not in sizes and not layer.media_type.endswith("tar"):
                tar = repo.commit_metadata(found).get(META_TAR_BYTES)
                sizes[layer.digest] = (layer.size, tar if isinstance(tar, int) else 0)
    return KnownLayers(known, tuple(pair for pair in sizes.values() if pair[1]))


@dataclass(frozen=True)
class GarbagePlan:
    """Refs that nothing needs."""

    images: tuple[str, ...]
    layers: tuple[str, ...]


def plan_garbage(
    images: Mapping[str, str],
    layers: Iterable[str],
    needed_images: Iterable[ImageReference],
    layers_of: Mapping[str, Iterable[str]],
    deployed: Iterable[str],
) -> GarbagePlan:
    """Decide which refs go.

    Args:
        images: image refs with their merge commits.
        layers: layer refs.
        needed_images: what deployments were made from (booted, staged, rollback, pinned, all).
        layers_of: digests of the layers of each merge commit that is known.
        deployed: commits of all deployments; their layers stay even where the image's ref moved on.
    """
    keep_refs = {image_ref(image) for image in needed_images}
    gone = tuple(sorted(ref for ref in images if ref not in keep_refs))
    commits = {commit for ref, commit in images.items() if ref in keep_refs} | set(deployed)
    keep_layers = {layer_ref(digest) for commit in commits for digest in layers_of.get(commit, ())}
    return GarbagePlan(gone, tuple(sorted(set(layers) - keep_layers)))


@dataclass(frozen=True)
class Collected:
    """What was removed."""

    images: int
    layers: int
    objects: PruneResult


def drop_unneeded_refs(
    repo: Repo,
    *,
    needed_images: Iterable[ImageReference],
    deployed: Iterable[str],
    keep_unfinished: bool = False,
) -> GarbagePlan:
    """Remove image refs that no deployment was made from, base refs of gone ones, layer refs that no image has.

    The objects stay until the repository is pruned.

    Args:
        repo: the system's repository; no transaction may be open.
        needed_images: references of all deployments' origins.
        deployed: commits of all deployments (booted, staged, rollback, pinned); they need not have a ref.
        keep_unfinished: keep layers that no image which was ever merged has: a fetch that was interrupted left them,
            and goes on with them.
    """
    images = stored_images(repo)
    deployed = tuple(deployed)
    gone_bases = _gone_bases(repo, deployed)
    bases = {
        commit for ref, commit in repo.refs(BASE_IMAGE_PREFIX).items() if ref not in gone_bases
    }
    layers_of: dict[str, list[str]] = {}
    for commit in {*images.values(), *deployed, *bases}:
        metadata = load_image_metadata(repo, commit) if repo.has_commit(commit) else None
        if metadata is not None:
            layers_of[commit] = [layer.digest for layer in metadata.manifest.layers]
    plan = plan_garbage(
        images, repo.refs(LAYER_PREFIX), needed_images, layers_of, (*deployed, *bases)
    )
    if keep_unfinished:
        plan = replace(plan, layers=_of_merged_images(repo, plan.layers))
    for ref in (*plan.images, *gone_bases, *plan.layers):
        repo.set_ref(ref, None)
    return plan


def _of_merged_images(repo: Repo, layers: Iterable[str]) -> tuple[str, ...]:
    """Of layer refs those that belong to images of which the merge commit is there, or was dropped just now."""
    merged: set[str] = set()
    for commit in repo.commits() if layers else ():
        with suppress(UserError):
            metadata = load_image_metadata(repo, commit)
            if metadata is not None:
                merged.update(layer_ref(layer.digest) for layer in metadata.manifest.layers)
    return tuple(ref for ref in layers if ref in merged)


def _gone_bases(repo: Repo, deployed: Iterable[str]) -> list[str]:
    """Upstream's refs to bases of deployments that are not there any more; it makes them anew each time, too."""
    needed = set(deployed)
    needed |= {repo.parent(commit) or commit for commit in needed if repo.has_commit(commit)}
    refs = repo.refs(BASE_IMAGE_PREFIX)
    return [
        ref
        for ref, commit in sorted(refs.items())
        if ref.startswith(OWN_BASE_IMAGES) and commit not in needed
    ]


def collect_garbage(
    repo: Repo, *, needed_images: Iterable[ImageReference], deployed: Iterable[str]
) -> Collected:
    """`drop_unneeded_refs`, then remove the objects that nothing reaches any more."""
    plan = drop_unneeded_refs(repo, needed_images=needed_images, deployed=deployed)
    return Collected(len(plan.images), len(plan.layers), repo.prune())
