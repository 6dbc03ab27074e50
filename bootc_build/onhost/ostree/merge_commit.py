"""The commit that a deployment is made from: all layers of an image laid over one another, with their labels.

It carries manifest, configuration and digest under upstream's keys, so each of the two agents reads what the
other wrote.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Final

import gi

from bootc_build import __version__
from bootc_build.onhost.oci.manifest import timestamp
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.importer import (
    META_HARDLINKS,
    META_IMPLIED,
    META_IMPORTER,
    META_LABELS,
    META_WHITEOUTS,
    Layer,
)
from bootc_build.onhost.ostree.merge import LayerContent, merge_layers
from bootc_build.onhost.ostree.metadata import (
    META_CONFIG,
    META_MANIFEST,
    META_MANIFEST_DIGEST,
    ImageMetadata,
)
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo, explained
from bootc_build.onhost.ostree.selinux import Labels, policy_labels, relabel

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first


def write_merge_commit(
    repo: Repo,
    image: ImageMetadata,
    layers: Sequence[tuple[Layer, str]],
    target: ImageReference | None,
    *,
    base: str | None,
    fallback_time: int,
) -> str:
    """Merge an image's layers into one commit and point the image's ref at it.

    Where the merged tree has a SELinux policy and layers are not labelled by it, they are first, once and for all.

    Args:
        repo: where the layers are.
        image: what is recorded.
        layers: the ordinary layers with their commits, lowest first.
        target: the image whose ref is set; None sets none.
        base: the commit that the layers lie upon, of an image that is an ostree commit; the parent.
        fallback_time: timestamp in seconds, for images that do not say when they were made.

    Returns:
        The checksum of the commit.
    """
    when = timestamp(image.manifest, image.config)
    with explained(repo), repo.transaction():
        store = ObjectStore(repo, direct=True)
        unlabelled = [] if base is None else [_base_content(store, base)]
        contents = [_content(repo, store, layer, commit) for layer, commit in layers]
        tree, meta = merge_layers(store, [*unlabelled, *contents])
        with policy_labels(store, tree) as labels:
            # The base alone was labelled by whoever made it.
            if labels is not None and layers:
                lowest = [_label_base(store, content, labels) for content in unlabelled]
                upper = [
                    _label_layer(repo, store, *each, labels)
                    for each in zip(layers, contents, strict=True)
                ]
                if upper != contents or lowest != unlabelled:
                    tree, meta = merge_layers(store, [*lowest, *upper])
        commit = store.write_commit(
            tree, meta, _metadata(image), fallback_time if when is None else when, base
        )
        if target is not None:
            store.set_ref(image_ref(target), commit)
    return commit


def _metadata(image: ImageMetadata) -> dict[str, GLib.Variant]:
    return {
        META_MANIFEST_DIGEST: GLib.Variant("s", image.manifest_digest),
        META_MANIFEST: GLib.Variant("s", image.manifest.text),
        META_CONFIG: GLib.Variant("s", image.config.text),
        META_IMPORTER: GLib.Variant("s", __version__),
    }


def _base_content(store: ObjectStore, commit: str) -> LayerContent:
    tree, meta = store.root_of(commit)
    return LayerContent(name="The ostree commit", tree=tree, meta=meta, whiteouts=False)


def _label_base(store: ObjectStore, content: LayerContent, labels: Labels) -> LayerContent:
    """The base by the merged tree's policy: as it is, unless a layer on top changed the policy."""
    with policy_labels(store, content.tree) as own:
        if own is not None and own.digest == labels.digest:
            return content
    tree, meta = relabel(store, content.tree, content.meta, labels)
    return replace(content, tree=tree, meta=meta)


def _label_layer(
    repo: Repo,
    store: ObjectStore,
    stored: tuple[Layer, str],
    content: LayerContent,
    labels: Labels,
) -> LayerContent:
    """A layer by the policy; stored under its ref with the labels, unless it had them."""
    layer, commit = stored
    if repo.commit_metadata(commit).get(META_LABELS) == labels.digest:
        return content
    tree, meta = relabel(store, content.tree, content.meta, labels)
    metadata = store.commit_metadata(commit)
    metadata[META_LABELS] = GLib.Variant("s", labels.digest)
    store.set_ref(layer_ref(layer.digest), store.write_commit(tree, meta, metadata, timestamp=0))
    return replace(content, tree=tree, meta=meta)


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
