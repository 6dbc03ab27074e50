"""``bootc-build disk`` against the floor, and against itself after a small change.

The floor: copy the image's tree, sync, make a file system of it; for a qcow2, compress that once. Layers are kept in a
cache of this run alone, which is empty where a disk is compared with the floor. `benchmarks.mkosi` compares with mkosi.
"""

import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bootc_build
from benchmarks.__main__ import Settings
from benchmarks.measure import Ratio, measure, paired, put_away
from bootc_build.disk.checksums import Checksums
from bootc_build.onhost.process import run
from bootc_build.tools.buildah import inspect_image, remove_image, working_container
from bootc_build.tools.podman import image_store

REPOSITORY = "localhost/bootc-bench/disk"
_SAMPLE_SECONDS = 0.05
_SMALL_CHANGE = "FROM {image}\nRUN echo changed > /usr/share/changed\n"
# The cache of layers wants an image with this agent; base images have it compiled.
CURRENT = """\
FROM {image}
RUN rm -rf /usr/lib/bootc/python/bootc_build
COPY . /usr/lib/bootc/python/bootc_build
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/bootc/python
"""
# 40,000 files of 1.6 GB, half of each as compressible as text is.
BIG = """\
FROM {image}
RUN python3 -c "import os, random; r = random.Random(1); \\
    [(os.makedirs(d := f'/usr/share/big/{{i % 400}}', exist_ok=True), \\
      open(f'{{d}}/{{i}}', 'wb').write(r.randbytes(n := int(r.expovariate(1 / 20000))) + b'words ' * (n // 6))) \\
     for i in range(40000)] and None"
"""


@dataclass(frozen=True)
class Space:
    """Peak of what a build takes on the disk, against what the image's files take there.

    Attributes:
        name: what is measured.
        target: the ratio that is wanted.
        peak: bytes of whole blocks.
        image: bytes of whole blocks.
        named: bytes of the image as podman counts them, which is without the rest of last blocks.
    """

    name: str
    target: float
    peak: int
    image: int
    named: int

    def __str__(self) -> str:
        ratio = self.peak / self.image
        verdict = "met" if ratio <= self.target else "MISSED"
        sizes = f"{self.peak / 1e6:,.0f} MB of {self.image / 1e6:,.0f}, {self.named / 1e6:,.0f} as podman counts"
        return f"{self.name}: {ratio:.2f} (target <= {self.target:g}, {verdict}; {sizes})"


@dataclass(frozen=True)
class Bound:
    """A part that a ratio cannot be below."""

    name: str
    ratio: float

    def __str__(self) -> str:
        return f"{self.name}: {self.ratio:.2f}"


def measure_all(settings: Settings) -> Iterator[Ratio | Space | Bound]:
    """Ratios of wall times, and of space, for the image that is given and for one of 2 GB."""
    os.environ["XDG_CACHE_HOME"] = str(settings.scratch / "cache")
    names = ("current", "changed", "big", "big-changed")
    current, changed, big, big_changed = (f"{REPOSITORY}:{name}" for name in names)
    try:
        build(settings, CURRENT, settings.image, current)
        yield from _measure(settings, current, "400 MB", settings.rounds)
        build(settings, _SMALL_CHANGE, current, changed)
        yield from _rebuilt(settings, current, changed, "400 MB", settings.rounds)
        build(settings, BIG, current, big)
        yield from _measure(settings, big, "2 GB", min(settings.rounds, 2))
        build(settings, _SMALL_CHANGE, big, big_changed)
        yield from _rebuilt(settings, big, big_changed, "2 GB", min(settings.rounds, 2))
    finally:
        for image in (big_changed, big, changed, current):
            remove_image(image)


def _rebuilt(
    settings: Settings, image: str, changed: str, size: str, rounds: int
) -> Iterator[Ratio | Bound]:
    """A disk of an image with a small layer more, against the first disk of all, which fills the cache."""

    def first() -> float:
        return make_disk(settings, image, "raw")

    first()
    again, firsts, bounds = [], [], []
    for _ in range(rounds):
        again.append(make_disk(settings, changed, "raw", keep_layers=True))
        firsts.append(first())
        bounds.append(_checksum(settings))
    name = f"{size}, disk after a small layer more / first disk"
    yield Ratio(name, 0.4, tuple(again), tuple(firsts))
    alone = f"{size}, sha256 of the disk / first disk, which is what no cache spares"
    yield Bound(alone, statistics.median(x / y for x, y in zip(bounds, firsts, strict=True)))


def _checksum(settings: Settings) -> float:
    """The seconds that the checksum of the disk in `out` takes by itself."""
    begin = time.monotonic()
    with Checksums() as checksums:
        checksums.begin(settings.scratch / "out/disk.raw").result()
    return time.monotonic() - begin


def _measure(settings: Settings, image: str, size: str, rounds: int) -> Iterator[Ratio | Space]:
    with working_container(image) as container:
        tree = container.mount()
        for kind in ("raw", "qcow2"):
            yield paired(
                f"{size}, {kind} / (cp -a, sync, mke2fs -d{', compress' * (kind == 'qcow2')})",
                1.6,
                lambda kind=kind: make_disk(settings, image, kind),  # type: ignore[misc]
                lambda kind=kind: _floor(settings, tree, kind),  # type: ignore[misc]
                rounds=rounds,
                warm_up=rounds > 1,
            )
        yield _space(settings, image, size)


def build(settings: Settings, text: str, image: str, tag: str) -> None:
    """Build an image by a Containerfile of one of the texts above."""
    context = settings.scratch / "context"
    context.mkdir(exist_ok=True)
    package = Path(bootc_build.__file__).parent
    shutil.copy(package / "__init__.py", context)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package / "onhost", context / "onhost", dirs_exist_ok=True, ignore=ignored)
    file = settings.scratch / "Containerfile"
    file.write_text(text.format(image=image))
    command = ["buildah", "build", "-q", "--isolation", "chroot", "--layers=false", "-t", tag]
    run([*command, "-f", str(file), str(context)])


def make_disk(settings: Settings, image: str, kind: str, *, keep_layers: bool = False) -> float:
    """The seconds that a disk takes; it stays in the folder `out` until the next one."""
    out = settings.scratch / "out"
    put_away(out)
    if not keep_layers:
        put_away(settings.scratch / "cache")
    os.sync()
    follow = ["--target-imgref", "registry.example/os:1"]
    command = ["bootc-build", "disk", image, "--type", kind, "--output", str(out), *follow]
    return measure(command, settings.scratch / "log").wall


def _floor(settings: Settings, tree: Path, kind: str) -> float:
    copy, disk, compressed = (settings.scratch / name for name in ("copy", "floor", "compressed"))
    log = settings.scratch / "log"
    put_away(disk)
    os.sync()
    seconds = measure(["cp", "-a", str(tree), str(copy)], log).wall
    seconds += measure(["sync"], log).wall
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-d", str(copy), str(disk), "6G"]
    seconds += measure(mke2fs, log).wall
    if kind == "qcow2":
        convert = ["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd"]
        seconds += measure([*convert, str(disk), str(compressed)], log).wall
    put_away(copy)
    return seconds


def _space(settings: Settings, image: str, size: str) -> Space:
    with image_store() as store:
        named = store.get(str(inspect_image(image)["FromImageID"])).size_bytes
    with working_container(image) as container:
        stored = _taken(container.mount())
    for name in ("out", "cache"):
        put_away(settings.scratch / name)
    peak = _peak(settings.scratch, lambda: make_disk(settings, image, "raw"))
    return Space(f"{size}, peak space of a raw disk / image", 2.2, peak, stored, named)


def _peak(folder: Path, work: Callable[[], object]) -> int:
    """How much more than at its beginning a folder takes at most while something is done."""
    before = _taken(folder)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_SECONDS):
            peak = max(peak, _taken(folder) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak


def _taken(folder: Path) -> int:
    said = run(["du", "-s", "-B1", str(folder)], check=False).stdout.split()
    return int(said[0]) if said else 0
