"""How two images differ, as far as their manifests and configurations tell."""

from dataclasses import dataclass
from typing import Protocol

from bootc_build.onhost.oci.manifest import ImageConfig, ImageManifest


@dataclass(frozen=True)
class LayerChanges:
    """Layers and bytes of the new image, of what is gone and of what came."""

    total: int
    total_bytes: int
    removed: int
    removed_bytes: int
    added: int
    added_bytes: int

    @property
    def display(self) -> str:
        """Three lines for people, as upstream prints them."""
        rows = (
            ("Total new layers:", self.total, self.total_bytes),
            ("Removed layers:", self.removed, self.removed_bytes),
            ("Added layers:", self.added, self.added_bytes),
        )
        return "\n".join(
            f"{name:<17} {count:<4}  Size: {format_bytes(size)}" for name, count, size in rows
        )


class Described(Protocol):
    """An image as its manifest and configuration tell of it."""

    @property
    def manifest(self) -> ImageManifest:
        """Blobs and their sizes."""

    @property
    def config(self) -> ImageConfig:
        """Contents: a diff_id a layer."""


def layer_changes(old: Described, new: Described) -> LayerChanges:
    """What the step from one image to another removes and adds.

    Layers are compared by content: an image that was only compressed anew changes nothing.
    """
    before, after = _sizes(old), _sizes(new)
    removed = [size for diff_id, size in before.items() if diff_id not in after]
    added = [size for diff_id, size in after.items() if diff_id not in before]
    return LayerChanges(
        total=len(new.manifest.layers),
        total_bytes=sum(layer.size for layer in new.manifest.layers),
        removed=len(removed),
        removed_bytes=sum(removed),
        added=len(added),
        added_bytes=sum(added),
    )


def _sizes(image: Described) -> dict[str, int]:
    pairs = zip(image.config.diff_ids, image.manifest.layers, strict=False)
    return {diff_id: layer.size for diff_id, layer in pairs}


def format_bytes(size: int) -> str:
    """A size for people, in powers of 1000."""
    if size < 1000:  # noqa: PLR2004 - the base of the units
        return f"{size} bytes"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000:  # noqa: PLR2004 - likewise
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
