"""``bootc-build disk`` against the floor, against mkosi, and against itself after a small change.

The floor: copy the image's tree, sync, make a file system of it; for a qcow2, compress that once. mkosi makes its
disk from the same tree, already built, and without a boot loader.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import Settings
from benchmarks.measure import Ratio, measure, paired
from bootc_build.onhost.process import MissingProgramError, find_program, run
from bootc_build.tools.buildah import inspect_image, remove_image, working_container
from bootc_build.tools.podman import image_store

_REPOSITORY = "localhost/bootc-bench/disk"
_SAMPLE_SECONDS = 0.05
_SMALL_CHANGE = "FROM {image}\nRUN echo changed > /usr/share/changed\n"
# 40,000 files of 1.6 GB, half of each as compressible as text is.
_BIG = """\
FROM {image}
RUN python3 -c "import os, random; r = random.Random(1); \\
    [(os.makedirs(d := f'/usr/share/big/{{i % 400}}', exist_ok=True), \\
      open(f'{{d}}/{{i}}', 'wb').write(r.randbytes(n := int(r.expovariate(1 / 20000))) + b'words ' * (n // 6))) \\
     for i in range(40000)] and None"
"""


@dataclass(frozen=True)
class Space:
    """Peak of what a build takes on the disk, against the image's size; both in bytes."""

    name: str
    target: float
    peak: int
    image: int

    def __str__(self) -> str:
        ratio = self.peak / self.image
        verdict = "met" if ratio <= self.target else "MISSED"
        sizes = f"{self.peak / 1e6:,.0f} of {self.image / 1e6:,.0f} MB"
        return f"{self.name}: {ratio:.2f} (target <= {self.target:g}, {verdict}; {sizes})"


def measure_all(settings: Settings) -> Iterator[Ratio | Space | str]:
    """Ratios of wall times, and of space, for the image that is given and for one of 2 GB."""
    yield from _measure(settings, settings.image, "400 MB", settings.rounds)
    big, changed = f"{_REPOSITORY}:big", f"{_REPOSITORY}:changed"
    try:
        _build(settings, _SMALL_CHANGE, settings.image, changed)
        yield paired(
            "400 MB, disk after a small layer more / disk",
            0.4,
            lambda: _disk(settings, changed, "raw"),
            lambda: _disk(settings, settings.image, "raw"),
            rounds=settings.rounds,
        )
        _build(settings, _BIG, settings.image, big)
        yield from _measure(settings, big, "2 GB", 1)
    finally:
        for image in (big, changed):
            remove_image(image)


def _measure(
    settings: Settings, image: str, size: str, rounds: int
) -> Iterator[Ratio | Space | str]:
    with working_container(image) as container:
        tree = container.mount()
        for kind in ("raw", "qcow2"):
            yield paired(
                f"{size}, {kind} / (cp -a, sync, mke2fs -d{', compress' * (kind == 'qcow2')})",
                1.6,
                lambda kind=kind: _disk(settings, image, kind),  # type: ignore[misc]
                lambda kind=kind: _floor(settings, tree, kind),  # type: ignore[misc]
                rounds=rounds,
                warm_up=rounds > 1,
            )
        yield _space(settings, image, size)
        yield _mkosi(settings, image, tree, f"{size}, raw / mkosi", rounds)


def _mkosi(settings: Settings, image: str, tree: Path, name: str, rounds: int) -> Ratio | str:
    try:
        find_program("mkosi")
    except MissingProgramError:
        return f"{name}: not measured, mkosi (24 or newer) is not installed"
    output = settings.scratch / "mkosi"
    command = ["mkosi", "--distribution", "custom", "--format", "disk", "--bootable", "no"]
    command += ["--base-tree", str(tree), "--output-dir", str(output), "--force"]
    command += ["--workspace-dir", str(settings.scratch), "build"]

    def theirs() -> float:
        shutil.rmtree(output, ignore_errors=True)
        os.sync()
        return measure(command, settings.scratch / "log").wall

    return paired(
        name,
        1.0,
        lambda: _disk(settings, image, "raw"),
        theirs,
        rounds=rounds,
        warm_up=rounds > 1,
    )


def _build(settings: Settings, text: str, image: str, tag: str) -> None:
    context = settings.scratch / "context"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(text.format(image=image))
    command = ["buildah", "build", "-q", "--isolation", "chroot", "--layers=false", "-t", tag]
    run([*command, str(context)])


def _disk(settings: Settings, image: str, kind: str) -> float:
    out = settings.scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    follow = ["--target-imgref", "registry.example/os:1"]
    command = ["bootc-build", "disk", image, "--type", kind, "--output", str(out), *follow]
    return measure(command, settings.scratch / "log").wall


def _floor(settings: Settings, tree: Path, kind: str) -> float:
    copy, disk, compressed = (settings.scratch / name for name in ("copy", "floor", "compressed"))
    log = settings.scratch / "log"
    shutil.rmtree(copy, ignore_errors=True)
    disk.unlink(missing_ok=True)
    os.sync()
    seconds = measure(["cp", "-a", str(tree), str(copy)], log).wall
    seconds += measure(["sync"], log).wall
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-d", str(copy), str(disk), "6G"]
    seconds += measure(mke2fs, log).wall
    if kind == "qcow2":
        convert = ["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd"]
        seconds += measure([*convert, str(disk), str(compressed)], log).wall
    shutil.rmtree(copy)
    return seconds


def _space(settings: Settings, image: str, size: str) -> Space:
    with image_store() as store:
        stored = store.get(str(inspect_image(image)["FromImageID"])).size_bytes
    peak = _peak(settings.scratch / "out", lambda: _disk(settings, image, "raw"))
    return Space(f"{size}, peak space of a raw disk / image", 2.2, peak, stored)


def _peak(folder: Path, work: Callable[[], object]) -> int:
    """The most that a folder takes while something is done."""
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_SECONDS):
            said = run(["du", "-s", "-B1", str(folder)], check=False).stdout.split()
            peak = max(peak, int(said[0]) if said else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak
