"""``bootc-build disk`` against the floor: copy the image's tree, sync, and make a file system of it."""

import os
import shutil
from collections.abc import Iterator

from benchmarks.__main__ import Settings
from benchmarks.measure import Ratio, measure, paired
from bootc_build.tools.buildah import working_container


def measure_all(settings: Settings) -> Iterator[Ratio]:
    """One ratio: a raw disk from an image, wall time."""
    log = settings.scratch / "log"
    out, copy, floor_disk = (settings.scratch / name for name in ("out", "copy", "floor.ext4"))
    with working_container(settings.image) as container:
        tree = container.mount()

        def disk() -> float:
            shutil.rmtree(out, ignore_errors=True)
            command = ["bootc-build", "disk", settings.image, "--type", "raw", "--output", str(out)]
            return measure(command, log).wall

        def floor() -> float:
            shutil.rmtree(copy, ignore_errors=True)
            floor_disk.unlink(missing_ok=True)
            os.sync()
            seconds = measure(["cp", "-a", str(tree), str(copy)], log).wall
            seconds += measure(["sync"], log).wall
            mke2fs = ["mke2fs", "-q", "-t", "ext4", "-d", str(copy), str(floor_disk), "4G"]
            return seconds + measure(mke2fs, log).wall

        yield paired("disk / (cp -a, sync, mke2fs -d)", 2.5, disk, floor, rounds=settings.rounds)
