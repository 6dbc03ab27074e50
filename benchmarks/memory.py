"""Peak memory of an import, whatever the layer's size: one file of 400 MB, one of 2 GB."""

import io
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks import layouts
from benchmarks.__main__ import Settings
from benchmarks.measure import Peak, measure

_SIZES = (400_000_000, 2_000_000_000)


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
    layout.mkdir()
    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("usr/large")
        info.size = size
        tar.addfile(info, _Noise(size))
    layouts.write_image(layout, [layouts.adopt(layout, layout / "layer")])


def measure_all(settings: Settings) -> Iterator[Peak]:
    """The peaks; they should be the same for both sizes."""
    for size in _SIZES:
        layout, repo = settings.scratch / f"layout-{size}", settings.scratch / f"repo-{size}"
        _write_layout(layout, size)
        command = [sys.executable, "-m", "benchmarks.pull_once", str(layout), str(repo)]
        peak = measure(command, settings.scratch / "log").peak
        yield Peak(f"import of one file of {size / 1e6:,.0f} MB", peak)
        for each in (layout, repo):
            shutil.rmtree(each)
