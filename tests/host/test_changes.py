"""What is said of the difference between two images."""

import json

import pytest

from bootc_build.onhost.host.changes import format_bytes, layer_changes
from bootc_build.onhost.oci.manifest import ImageManifest, parse_manifest


def manifest(**layers: int) -> ImageManifest:
    def blob(letter: str, size: int) -> dict[str, object]:
        return {"mediaType": "x", "digest": "sha256:" + letter * 64, "size": size}

    return parse_manifest(
        json.dumps(
            {
                "schemaVersion": 2,
                "config": blob("0", 1),
                "layers": [blob(letter, size) for letter, size in layers.items()],
            }
        )
    )


def test_only_layers_that_differ_count_as_added_or_removed() -> None:
    changes = layer_changes(manifest(a=1000, b=20), manifest(a=1000, c=3_500_000, d=5))
    assert (changes.total, changes.total_bytes) == (3, 3_501_005)
    assert (changes.removed, changes.removed_bytes) == (1, 20)
    assert (changes.added, changes.added_bytes) == (2, 3_500_005)
    assert changes.display == (
        "Total new layers: 3     Size: 3.5 MB\n"
        "Removed layers:   1     Size: 20 bytes\n"
        "Added layers:     2     Size: 3.5 MB"
    )


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
