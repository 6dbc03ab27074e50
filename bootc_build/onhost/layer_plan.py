"""Which layers an image has, and which of them the repository lacks. Decided here; fetched by `pull`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bootc_build.onhost.oci.manifest import Descriptor, ImageConfig, ImageManifest
from bootc_build.onhost.oci.refnames import layer_ref
from bootc_build.onhost.ostree.images import KnownLayers
from bootc_build.onhost.ostree.importer import Layer
from bootc_build.onhost.ostree.repo import Repo


@dataclass(frozen=True)
class PlannedLayer:
    """A layer of the image with its descriptor, and its commit when the repository has it."""

    layer: Layer
    descriptor: Descriptor
    commit: str | None


def plan_layers(
    repo: Repo, manifest: ImageManifest, config: ImageConfig, known: KnownLayers
) -> list[PlannedLayer]:
    """The layers of an image in their order.

    Args:
        repo: where a layer is looked for by its digest.
        manifest: of the image.
        config: of the image, with as many layers as the manifest.
        known: where it is looked for by its content, which may have been compressed otherwise.
    """
    total = len(manifest.layers)
    planned = []
    for index, (descriptor, diff_id) in enumerate(
        zip(manifest.layers, config.diff_ids, strict=True)
    ):
        layer = Layer(
            digest=descriptor.digest,
            diff_id=diff_id,
            number=index + 1,
            total=total,
            made_by=config.made_by(index),
        )
        commit = repo.resolve_ref(layer_ref(descriptor.digest)) or known.by_diff_id.get(diff_id)
        planned.append(PlannedLayer(layer, descriptor, commit))
    return planned


def missing_layers(planned: Sequence[PlannedLayer]) -> list[PlannedLayer]:
    """Those that have to be fetched, each once: an image may have the same one twice."""
    missing = {item.layer.diff_id: item for item in reversed(planned) if item.commit is None}
    return sorted(missing.values(), key=lambda item: item.layer.number)
