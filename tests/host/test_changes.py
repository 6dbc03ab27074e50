"""What is said of the difference between two images."""

import json
from dataclasses import dataclass

import pytest

from bootc_build.onhost.host.changes import format_bytes, layer_changes
from bootc_build.onhost.oci.manifest import ImageConfig, ImageManifest, parse_config, parse_manifest


@dataclass(frozen=True)
class Image:
    manifest: ImageManifest
    config: ImageConfig


def image(blob_prefix: str = "", **layers: int) -> Image:
    """Layers by the letter that their content goes by; the prefix makes other blobs of them."""

    def blob(letter: str, size: int) -> dict[str, object]:
        digest = "sha256:" + (blob_prefix + letter * 64)[:64]
        return {"mediaType": "x", "digest": digest, "size": size}

    listed = [blob(letter, size) for letter, size in layers.items()]
    manifest = {"schemaVersion": 2, "config": blob("0", 1), "layers": listed}
    diff_ids = ["sha256:" + letter * 64 for letter in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    return Image(parse_manifest(json.dumps(manifest)), parse_config(json.dumps(config)))


def test_only_layers_that_differ_count_as_added_or_removed() -> None:
    changes = layer_changes(image(a=1000, b=20), image(a=1000, c=3_500_000, d=5))
    assert (changes.total, changes.total_bytes) == (3, 3_501_005)
    assert (changes.removed, changes.removed_bytes) == (1, 20)
    assert (changes.added, changes.added_bytes) == (2, 3_500_005)
    assert changes.display == (
        "Total new layers: 3     Size: 3.5 MB\n"
        "Removed layers:   1     Size: 20 bytes\n"
        "Added layers:     2     Size: 3.5 MB"
    )


def test_layers_that_were_compressed_anew_are_the_same() -> None:
    changes = layer_changes(image(a=1000, b=20), image("f", a=400, b=10))
    assert (changes.total, changes.removed, changes.added) == (2, 0, 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2_500_000_000, "2.5 GB"),
        (10**12, "1.0 TB"),
    ],
)
def test_sizes_are_in_powers_of_a_thousand(size: int, text: str) -> None:
    assert format_bytes(size) == text
