"""The importer against ``ostree commit --tree=tar=`` of the same layers, into repositories of the same kind."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import layouts
from benchmarks.__main__ import Settings
from benchmarks.measure import Measured, Peak, Ratio, measure, paired_both
from bootc_build.onhost.process import run

_TARGET = 0.7
# The base image itself, of about 0.4 GB, and that with five copies of all its files.
_COPIES = (0, 5)


def measure_all(settings: Settings) -> Iterator[Ratio | Peak]:
    """For each size wall time, processor time and peak memory.

    Both sides read uncompressed layers and write a bare repository.
    """
    layout = settings.scratch / "layout"
    layers = layouts.export(settings.image, layout)
    original = tuple(layers)
    for copies in _COPIES:
        layers += [layouts.copied_layer(layout, original, number) for number in range(copies)]
        layouts.write_image(layout, layers)
        yield from _compare(settings, layout, [layouts.blob(layout, each) for each in layers])


def _compare(settings: Settings, layout: Path, layers: list[Path]) -> Iterator[Ratio | Peak]:
    log = settings.scratch / "log"
    ours, theirs = settings.scratch / "ours", settings.scratch / "theirs"
    size = sum(layer.stat().st_size for layer in layers)
    name = f"import of {size / 1e9:.1f} GB / ostree commit --tree=tar"

    def pull() -> Measured:
        shutil.rmtree(ours, ignore_errors=True)
        os.sync()
        return measure([sys.executable, "-m", "benchmarks.pull_once", str(layout), str(ours)], log)

    def commit() -> Measured:
        shutil.rmtree(theirs, ignore_errors=True)
        run(["ostree", f"--repo={theirs}", "init", "--mode=bare"])
        os.sync()
        done = Measured(0, 0, 0)
        for number, layer in enumerate(layers):
            command = ["ostree", f"--repo={theirs}", "commit", f"--branch=layer{number}"]
            command += ["--tar-autocreate-parents", "--no-bindings", f"--tree=tar={layer}"]
            done += measure(command, log)
        return done

    ratios, peak = paired_both(name, _TARGET, pull, commit, rounds=settings.rounds)
    yield from ratios
    yield Peak(f"import of {size / 1e9:.1f} GB", peak)
    for each in (ours, theirs):
        shutil.rmtree(each)
