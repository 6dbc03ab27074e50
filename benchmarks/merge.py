"""Laying twenty layers of 60,000 files over one another: processor time of the merge alone."""

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import layouts
from benchmarks.__main__ import Settings
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref
from bootc_build.onhost.ostree.repo import create_repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull

_LAYERS = 20
_DIRECTORIES = 150
_FILES = 20
_TARGET = 1.0


@dataclass(frozen=True)
class Seconds:
    """Processor seconds of one thing, run several times."""

    name: str
    runs: tuple[float, ...]

    def __str__(self) -> str:
        best = min(self.runs)
        verdict = "met" if best <= _TARGET else "MISSED"
        shown = ", ".join(f"{each:.2f}" for each in self.runs)
        return f"{self.name}: {best:.2f} s (target <= {_TARGET:g} s, {verdict}; runs {shown})"


def _write_layer(layout: Path, number: int) -> str:
    """Files of its own in directories that all layers have; a few of the layer below go."""
    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as tar:
        for directory in range(_DIRECTORIES):
            below = f"usr/share/d{directory % 10}/e{directory}"
            names = [f"{below}/f{number}-{file}" for file in range(_FILES)]
            if number and directory % 10 == 0:
                names.append(f"{below}/.wh.f{number - 1}-0")
            for name in names:
                data = b"" if "/.wh." in name else name.encode()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return layouts.adopt(layout, layout / "layer")


def measure_all(settings: Settings) -> Iterator[Seconds]:
    """Processor time of a pull that finds all layers there, and so merges only."""
    layout = settings.scratch / "layout"
    layout.mkdir()
    layouts.write_image(layout, [_write_layer(layout, number) for number in range(_LAYERS)])
    repo = create_repo(settings.scratch / "repo")
    reference = ImageReference.parse_cli(f"{layout}:image", "oci")
    pull(repo, reference, progress=Silent(), install=True)
    runs = []
    for _ in range(settings.rounds):
        repo.set_ref(image_ref(reference), None)
        begun = time.process_time()
        pulled = pull(repo, reference, progress=Silent())
        runs.append(time.process_time() - begun)
        if pulled.already_present:
            raise AssertionError("nothing was merged")
    files = _LAYERS * _DIRECTORIES * _FILES
    yield Seconds(f"merge of {_LAYERS} layers, {files:,} files, processor time", tuple(runs))
