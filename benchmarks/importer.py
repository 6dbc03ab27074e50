"""The importer against ``ostree commit --tree=tar=`` of the same layers, into repositories of the same kind.

Nothing is deleted before the end: for minutes after, ext4 searches its inode tables past every inode that was freed
lately (fs/ext4/ialloc.c, ``recently_deleted``), and whoever makes files next pays for it, often more than the
import itself takes. On a host the old is removed after the new has come.
"""

import os
import sys
from collections.abc import Iterator
from itertools import count
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
    size = sum(layer.stat().st_size for layer in layers)
    name = f"import of {size / 1e9:.1f} GB / ostree commit --tree=tar"
    numbers = count()

    def fresh() -> Path:
        return settings.scratch / f"repo-{size}-{next(numbers)}"

    def pull() -> Measured:
        ours = fresh()
        os.sync()
        command = [sys.executable, "-m", "benchmarks.pull_once", str(layout), str(ours)]
        done = measure(command, log)
        _free_space(ours)
        return done

    def commit() -> Measured:
        theirs = fresh()
        run(["ostree", f"--repo={theirs}", "init", "--mode=bare"])
        os.sync()
        done = Measured(0, 0, 0)
        for number, layer in enumerate(layers):
            command = ["ostree", f"--repo={theirs}", "commit", f"--branch=layer{number}"]
            command += ["--tar-autocreate-parents", "--no-bindings", f"--tree=tar={layer}"]
            done += measure(command, log)
        _free_space(theirs)
        return done

    ratios, peak = paired_both(name, _TARGET, pull, commit, rounds=settings.rounds)
    yield from ratios
    yield Peak(f"import of {size / 1e9:.1f} GB", peak)


def _free_space(repo: Path) -> None:
    """Take a repository's content, and keep its inodes."""
    for file in repo.glob("objects/*/*.file"):
        if file.is_file() and not file.is_symlink():
            os.truncate(file, 0)
