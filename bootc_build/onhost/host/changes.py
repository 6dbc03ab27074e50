"""How two images differ, as far as their manifests tell."""

from dataclasses import dataclass

from bootc_build.onhost.oci.manifest import ImageManifest


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


def layer_changes(old: ImageManifest, new: ImageManifest) -> LayerChanges:
    """What the step from one image to another removes and adds."""
    before = {layer.digest: layer.size for layer in old.layers}
    after = {layer.digest: layer.size for layer in new.layers}
    removed = [size for digest, size in before.items() if digest not in after]
    added = [size for digest, size in after.items() if digest not in before]
    return LayerChanges(
        total=len(new.layers),
        total_bytes=sum(layer.size for layer in new.layers),
        removed=len(removed),
        removed_bytes=sum(removed),
        added=len(added),
        added_bytes=sum(added),
    )


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
