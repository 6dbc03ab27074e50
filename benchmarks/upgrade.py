"""An upgrade that changes one small layer, of images of several sizes: time and bytes should be the same.

The whole of ``bootc upgrade`` is measured (the look at the image, import, merge, deployment, clean-up), on a host
that is booted as far as it can see: the real libostree, skopeo and command line, without a machine.

The image grows in bytes alone, then in files too. Two parts grow with the number of files whatever changed, and both
are libostree's: to deploy is a hard link for each file, and to clean up is a walk over every object that a deployment
reaches. To look, fetch, import and merge reads only the directories that the new layer goes into.

Between two upgrades a minute goes by, as it does on a host: else the second pays for the directories that the
clean-up of the first freed (see `benchmarks.measure.put_away`).
"""

import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import layouts
from benchmarks.__main__ import Settings
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.sysroot import create_sysroot
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull
from tests.host.pretend_boot import BOOTC, PretendHost

# The base image itself has about 0.4 GB. More bytes in a few files, or copies of all its files.
_BULK_BYTES = 1_800_000_000
_BULK_FILES = 90
_COPIES = (2, 5)
_TARGET = 1.25
# For so long ext4 searches past an inode that was freed.
_SETTLING_SECONDS = 62
_TRACKED = ImageReference("oci", "/tmp/image:image")


# Prints for each line of the progress stream the seconds since the beginning, and the line.
_STAMP = """
import sys, time
begun = time.monotonic()
for line in sys.stdin:
    print(time.monotonic() - begun, line, end="", flush=True)
print(time.monotonic() - begun, "{}")
"""


@dataclass(frozen=True)
class Once:
    """One upgrade: bytes that were fetched, and seconds of its parts."""

    fetched: int
    bringing: float
    deploying: float
    cleaning: float

    @property
    def whole(self) -> float:
        """Seconds of the whole command."""
        return self.bringing + self.deploying + self.cleaning


@dataclass(frozen=True)
class Upgrade:
    """Upgrades of an image of so many bytes; ``words`` say how it came to them."""

    size: int
    words: str
    runs: tuple[Once, ...]

    def median(self, part: str) -> float:
        """Seconds of a part in the middle of the runs."""
        return statistics.median(float(getattr(each, part)) for each in self.runs)

    @property
    def fetched(self) -> int:
        """Bytes."""
        return max(each.fetched for each in self.runs)

    def __str__(self) -> str:
        parts = ", ".join(
            f"{self.median(part):.2f} s {words}"
            for part, words in (
                ("bringing", "to look, fetch, import and merge"),
                ("deploying", "to deploy"),
                ("cleaning", "to clean up"),
            )
        )
        return (
            f"upgrade of one small layer, image of {self.size / 1e9:.1f} GB{self.words}: "
            f"{self.fetched:,} bytes, {self.median('whole'):.2f} s ({parts})"
        )


@dataclass(frozen=True)
class Growth:
    """What a part takes with the largest image, in proportion to the smallest one."""

    part: str
    words: str
    small: Upgrade
    large: Upgrade

    def __str__(self) -> str:
        ratio = self.large.median(self.part) / self.small.median(self.part)
        same = self.large.fetched == self.small.fetched
        verdict = "met" if ratio <= _TARGET and same else "MISSED"
        return (
            f"{self.words}, {self.large.size / 1e9:.1f} GB{self.large.words} / "
            f"{self.small.size / 1e9:.1f} GB: {ratio:.2f}, "
            f"bytes {'the same' if same else 'NOT the same'} (target <= {_TARGET:g}, {verdict})"
        )


def measure_all(settings: Settings) -> Iterator[Upgrade | Growth]:
    """One line for each size, then how it grows."""
    os.environ["OSTREE_SYSROOT_DEBUG"] = "mutable-deployments"
    source = settings.scratch / "layout"
    layers = layouts.export(settings.image, source)
    original = tuple(layers)

    def upgrades(name: str, layers: list[str], words: str) -> Upgrade:
        # Removed with the rest at the end; see benchmarks.importer.
        return _measure(settings.scratch / name, source, layers, settings.rounds, words)

    small = upgrades("small", layers, "")
    yield small
    bulky = [*layers, layouts.bulky_layer(source, "usr/share/bulk", _BULK_BYTES, _BULK_FILES)]
    large = upgrades("bulky", bulky, " in as many files")
    yield large
    for copies in _COPIES:
        missing = range(len(layers) - len(original), copies)
        layers += [layouts.copied_layer(source, original, number) for number in missing]
        many = upgrades(f"copies-{copies}", layers, f" in {copies + 1} times the files")
        yield many
    yield Growth("whole", "upgrade, the whole", small, large)
    yield Growth("bringing", "upgrade, until it is merged", small, many)
    yield Growth("whole", "upgrade, the whole", small, many)


def _publish(layout: Path, layers: list[str], version: int) -> None:
    content = f"{version}\n".encode() * 10_000
    small = layouts.small_layer(layout, "usr/share/version", content)
    layouts.write_image(layout, [*layers, small], str(version))


def _measure(folder: Path, source: Path, layers: list[str], rounds: int, words: str) -> Upgrade:
    layout = folder / "image"
    layout.mkdir(parents=True)
    layouts.share(source, layout, layers)
    _publish(layout, layers, 1)
    host = _install(folder, layout)
    layout = layout.rename(host.scratch / "tmp/image")
    runs = []
    # The first has nothing to clean up yet.
    for version in range(2, rounds + 3):
        _publish(layout, layers, version)
        os.sync()
        time.sleep(_SETTLING_SECONDS)
        runs.append(_upgrade(host))
        host.reboot()
    size = sum(layouts.blob(layout, each).stat().st_size for each in layers)
    return Upgrade(size, words, tuple(runs[1:]))


def _upgrade(host: PretendHost) -> Once:
    (host.scratch / "tmp/stamp.py").write_text(_STAMP)
    command = f"{' '.join(BOOTC)} upgrade --quiet --progress-fd 3 3>&1 >/dev/null"
    finished = host.execute("sh", "-c", f"{command} | python3 /tmp/stamp.py")
    fetched = 0
    begun: dict[str, float] = {}
    lines = [line.split(" ", 1) for line in finished.stdout.splitlines()]
    for stamp, text in lines:
        event = json.loads(text)
        fetched = max(fetched, int(event.get("bytes", 0)))
        if event.get("task") == "staging":
            begun.setdefault(event["subtasks"][-1]["subtask"], float(stamp))
    if "cleanup" not in begun:
        raise AssertionError(finished.stderr)
    end = float(lines[-1][0])
    deploying, cleaning = begun["deploying"], begun["cleanup"]
    return Once(fetched, deploying, cleaning - deploying, end - cleaning)


def _install(folder: Path, layout: Path) -> PretendHost:
    path = folder / "sysroot"
    path.mkdir()
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    reference = ImageReference.parse_cli(f"{layout}:image", "oci")
    pulled = pull(sysroot.repo, reference, progress=Silent(), install=True, target=_TRACKED)
    sysroot.init_stateroot("default")
    origin = Origin.of_image(_TRACKED.to_origin()).serialise()
    sysroot.deploy(
        stateroot="default", commit=pulled.merge_commit, origin=origin, kargs=("root=UUID=r", "rw")
    )
    return PretendHost(path, folder / "scratch")
