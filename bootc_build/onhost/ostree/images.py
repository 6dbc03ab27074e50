"""Images in a repository: what is stored of them, merging their layers, removing what nothing needs.

The merge commit carries manifest, configuration and digest under upstream's keys, so each of the two agents
reads what the other wrote.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import gi

from bootc_build import __version__
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.manifest import timestamp
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import (
    BASE_IMAGE_PREFIX,
    IMAGE_PREFIX,
    LAYER_PREFIX,
    image_ref,
    layer_ref,
)
from bootc_build.onhost.ostree.importer import (
    META_HARDLINKS,
    META_IMPLIED,
    META_IMPORTER,
    META_WHITEOUTS,
    Layer,
)
from bootc_build.onhost.ostree.merge import LayerContent, merge_layers
from bootc_build.onhost.ostree.metadata import (
    META_CONFIG,
    META_MANIFEST,
    META_MANIFEST_DIGEST,
    ImageMetadata,
    load_image_metadata,
)
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import PruneResult, Repo, explained

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first


def stored_images(repo: Repo) -> dict[str, str]:
    """All image refs with their merge commits."""
    return repo.refs(IMAGE_PREFIX)


def known_diff_ids(repo: Repo) -> dict[str, str]:
    """Commits of layers by diff_id, from the metadata of all stored images.

    The same layer has another blob digest when it was compressed again.
    """
    layers = repo.refs(LAYER_PREFIX)
    known: dict[str, str] = {}
    for commit in set(stored_images(repo).values()):
        try:
            image = load_image_metadata(repo, commit)
        except UserError:
            continue  # a damaged image is no source, and no obstacle
        if image is None:
            continue
        for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=False):
            found = layers.get(layer_ref(layer.digest))
            if found is not None:
                known.setdefault(diff_id, found)
    return known


def write_merge_commit(
    repo: Repo,
    image: ImageMetadata,
    layers: Iterable[tuple[Layer, str]],
    target: ImageReference | None,
    *,
    fallback_time: int,
) -> str:
    """Merge an image's layers into one commit and point the image's ref at it.

    Args:
        repo: where the layers are.
        image: what is recorded.
        layers: the layers with their commits, lowest first.
        target: the image whose ref is set; None sets none.
        fallback_time: timestamp in seconds, for images that do not say when they were made.

    Returns:
        The checksum of the commit.
    """
    store = ObjectStore(repo)
    metadata = {
        META_MANIFEST_DIGEST: GLib.Variant("s", image.manifest_digest),
        META_MANIFEST: GLib.Variant("s", image.manifest.text),
        META_CONFIG: GLib.Variant("s", image.config.text),
        META_IMPORTER: GLib.Variant("s", __version__),
    }
    when = timestamp(image.manifest, image.config)
    with explained(repo), repo.transaction():
        contents = [_content(repo, store, layer, commit) for layer, commit in layers]
        tree, meta = merge_layers(store, contents)
        commit = store.write_commit(tree, meta, metadata, fallback_time if when is None else when)
        if target is not None:
            store.set_ref(image_ref(target), commit)
    return commit


class _AllPaths(Container[str]):
    """Every path is in it."""

    def __contains__(self, path: object) -> bool:
        return True


# A layer that upstream wrote does not say which of its directories had an entry. Upstream's merge then leaves the
# mode of what is there already, so this one does too.
_ALL_PATHS: Final = _AllPaths()


def _content(repo: Repo, store: ObjectStore, layer: Layer, commit: str) -> LayerContent:
    metadata = repo.commit_metadata(commit)
    implied, hardlinks = metadata.get(META_IMPLIED), metadata.get(META_HARDLINKS, {})
    tree, meta = store.root_of(commit)
    return LayerContent(
        name=layer.name,
        tree=tree,
        meta=meta,
        implied=frozenset(implied) if isinstance(implied, list) else _ALL_PATHS,
        hardlinks=hardlinks if isinstance(hardlinks, dict) else {},
        whiteouts=metadata.get(META_WHITEOUTS) is not False,
    )


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
    repo: Repo, *, needed_images: Iterable[ImageReference], deployed: Iterable[str]
) -> GarbagePlan:
    """Remove image refs that no deployment was made from, then layer refs that no image has.

    The objects stay until the repository is pruned.

    Args:
        repo: the system's repository; no transaction may be open.
        needed_images: references of all deployments' origins.
        deployed: commits of all deployments (booted, staged, rollback, pinned); they need not have a ref.
    """
    images = stored_images(repo)
    deployed = tuple(deployed)
    bases = repo.refs(BASE_IMAGE_PREFIX).values()
    layers_of: dict[str, list[str]] = {}
    for commit in {*images.values(), *deployed, *bases}:
        metadata = load_image_metadata(repo, commit) if repo.has_commit(commit) else None
        if metadata is not None:
            layers_of[commit] = [layer.digest for layer in metadata.manifest.layers]
    plan = plan_garbage(
        images, repo.refs(LAYER_PREFIX), needed_images, layers_of, (*deployed, *bases)
    )
    for ref in (*plan.images, *plan.layers):
        repo.set_ref(ref, None)
    return plan


def collect_garbage(
    repo: Repo, *, needed_images: Iterable[ImageReference], deployed: Iterable[str]
) -> Collected:
    """`drop_unneeded_refs`, then remove the objects that nothing reaches any more."""
    plan = drop_unneeded_refs(repo, needed_images=needed_images, deployed=deployed)
    return Collected(len(plan.images), len(plan.layers), repo.prune())
