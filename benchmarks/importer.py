"""The importer against ``ostree commit --tree=tar=`` of the same layers, into repositories of the same kind."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.__main__ import Settings
from benchmarks.measure import Ratio, measure, paired
from bootc_build.onhost.process import run
from bootc_build.tools.buildah import image_id
from bootc_build.tools.skopeo import export_uncompressed


def layer_files(layout: Path) -> list[Path]:
    """The layers of the only image in an OCI layout, lowest first."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    return [blob(layer["digest"]) for layer in manifest["layers"]]


def measure_all(settings: Settings) -> Iterator[Ratio]:
    """Two ratios, wall and processor time; both sides read uncompressed layers and write a bare repository."""
    log = settings.scratch / "log"
    layout = settings.scratch / "layout"
    export_uncompressed(image_id(settings.image), layout, "image")
    layers = layer_files(layout)
    ours, theirs = settings.scratch / "ours", settings.scratch / "theirs"

    def pull(kind: str) -> float:
        shutil.rmtree(ours, ignore_errors=True)
        os.sync()
        command = [sys.executable, "-m", "benchmarks.pull_once", str(layout), str(ours)]
        return float(getattr(measure(command, log), kind))

    def commit(kind: str) -> float:
        shutil.rmtree(theirs, ignore_errors=True)
        run(["ostree", f"--repo={theirs}", "init", "--mode=bare"])
        os.sync()
        seconds = 0.0
        for number, layer in enumerate(layers):
            command = ["ostree", f"--repo={theirs}", "commit", f"--branch=layer{number}"]
            command += ["--tar-autocreate-parents", "--no-bindings", f"--tree=tar={layer}"]
            seconds += float(getattr(measure(command, log), kind))
        return seconds

    for kind in ("wall", "cpu"):
        yield paired(
            f"import / ostree commit --tree=tar, {kind} time",
            0.8,
            lambda kind=kind: pull(kind),  # type: ignore[misc]
            lambda kind=kind: commit(kind),  # type: ignore[misc]
            rounds=settings.rounds,
        )
