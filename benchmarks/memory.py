"""Peak memory of an import, whatever the layer's size: one file of 400 MB, one of 2 GB."""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.__main__ import Settings
from benchmarks.measure import measure

_SIZES = (400_000_000, 2_000_000_000)
_TARGET = 150_000_000


@dataclass(frozen=True)
class Peak:
    """Peak resident memory of one import, in bytes."""

    size: int
    peak: int

    def __str__(self) -> str:
        verdict = "met" if self.peak <= _TARGET else "MISSED"
        return (
            f"peak memory, one file of {self.size / 1e6:,.0f} MB: {self.peak / 1e6:.0f} MB "
            f"(target <= {_TARGET / 1e6:.0f} MB, {verdict})"
        )


class _Noise(io.RawIOBase):
    """So many bytes that do not compress, always the same."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = Random(0).randbytes(1 << 20)  # noqa: S311 - not for secrets

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = min(self._left, len(self._block), size if size >= 0 else self._left)
        self._left -= count
        return self._block[:count]


def _write_layout(layout: Path, size: int) -> None:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(document: object) -> dict[str, object]:
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("usr/large")
        info.size = size
        tar.addfile(info, _Noise(size))
    with (layout / "layer").open("rb") as layer:
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
    length = (layout / "layer").stat().st_size
    (layout / "layer").rename(blobs / digest)
    kind = "application/vnd.oci.image"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"containers.bootc": "1"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **put(config)},
        "layers": [
            {"mediaType": f"{kind}.layer.v1.tar", "digest": f"sha256:{digest}", "size": length}
        ],
    }
    entry = {
        "mediaType": f"{kind}.manifest.v1+json",
        **put(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def measure_all(settings: Settings) -> Iterator[Peak]:
    """The peaks; they should be the same for both sizes."""
    for size in _SIZES:
        layout, repo = settings.scratch / f"layout-{size}", settings.scratch / f"repo-{size}"
        _write_layout(layout, size)
        command = [sys.executable, "-m", "benchmarks.pull_once", str(layout), str(repo)]
        yield Peak(size, measure(command, settings.scratch / "log").peak)
