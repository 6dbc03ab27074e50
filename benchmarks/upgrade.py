"""An upgrade that changes one small layer, of images of several sizes: time and bytes should be the same.

The whole of ``bootc upgrade`` is measured (the look at the image, import, merge, deployment, clean-up), on a host
that is booted as far as it can see: the real libostree, skopeo and command line, without a machine.
"""

import json
import os
import shutil
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

# The base image itself, of about 0.4 GB, and that with copies of all its files.
_COPIES = (0, 2, 5)
_TARGET = 1.25
_TRACKED = ImageReference("oci", "/tmp/image:image")


@dataclass(frozen=True)
class Upgrade:
    """Upgrades of an image: its bytes, and of each upgrade the bytes that were fetched, and seconds."""

    size: int
    fetched: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the upgrade in the middle."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        shown = ", ".join(f"{each:.2f}" for each in self.seconds)
        return (
            f"upgrade of one small layer, image of {self.size / 1e9:.1f} GB: {self.median:.2f} s, "
            f"{max(self.fetched):,} bytes fetched (runs {shown} s)"
        )


@dataclass(frozen=True)
class Growth:
    """What the largest image's upgrade takes, in proportion to the smallest one's."""

    small: Upgrade
    large: Upgrade

    def __str__(self) -> str:
        ratio = self.large.median / self.small.median
        same = max(self.large.fetched) == max(self.small.fetched)
        verdict = "met" if ratio <= _TARGET and same else "MISSED"
        return (
            f"upgrade, {self.large.size / 1e9:.1f} GB / {self.small.size / 1e9:.1f} GB: {ratio:.2f}, "
            f"bytes {'the same' if same else 'NOT the same'} (target <= {_TARGET:g}, {verdict})"
        )


def measure_all(settings: Settings) -> Iterator[Upgrade | Growth]:
    """One line for each size, then how it grows."""
    os.environ["OSTREE_SYSROOT_DEBUG"] = "mutable-deployments"
    source = settings.scratch / "layout"
    layers = layouts.export(settings.image, source)
    original, done = tuple(layers), []
    for copies in _COPIES:
        missing = range(len(layers) - len(original), copies)
        layers += [layouts.copied_layer(source, original, number) for number in missing]
        folder = settings.scratch / f"host-{copies}"
        done.append(_measure(folder, source, layers, settings.rounds))
        shutil.rmtree(folder)
        yield done[-1]
    yield Growth(done[0], done[-1])


def _publish(layout: Path, layers: list[str], version: int) -> None:
    content = f"{version}\n".encode() * 10_000
    small = layouts.small_layer(layout, "usr/share/version", content)
    layouts.write_image(layout, [*layers, small], str(version))


def _measure(folder: Path, source: Path, layers: list[str], rounds: int) -> Upgrade:
    layout = folder / "image"
    layout.mkdir(parents=True)
    layouts.share(source, layout, layers)
    _publish(layout, layers, 1)
    host = _install(folder, layout)
    layout = layout.rename(host.scratch / "tmp/image")
    fetched, seconds = [], []
    # The first has nothing to clean up yet.
    for version in range(2, rounds + 3):
        _publish(layout, layers, version)
        os.sync()
        begun = time.monotonic()
        command = f"{' '.join(BOOTC)} upgrade --quiet --progress-fd 3 3>&1 >/dev/null | cat >/tmp/progress"
        finished = host.execute("sh", "-c", command)
        seconds.append(time.monotonic() - begun)
        if finished.status != 0:
            raise AssertionError(finished.stderr)
        fetched.append(_bytes_fetched((host.scratch / "tmp/progress").read_text()))
        host.reboot()
    size = sum(layouts.blob(layout, each).stat().st_size for each in layers)
    return Upgrade(size, tuple(fetched[1:]), tuple(seconds[1:]))


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


def _bytes_fetched(lines: str) -> int:
    events = [json.loads(line) for line in lines.splitlines()]
    return max(int(event["bytes"]) for event in events if event["type"] == "ProgressBytes")
