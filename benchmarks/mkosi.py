"""``bootc-build disk`` against mkosi, which makes a disk of the same tree, already built, and without a boot loader.

mkosi copies the tree, runs depmod, systemd-sysusers, systemd-tmpfiles and presets in the copy, and has systemd-repart
make one ext4 partition of it, with mke2fs. It would do that twice, to find the smallest size; the size that is given
here spares it that. Whether its disk has the tree is looked at before anything is measured.

mkosi 24 or newer, systemd-repart 254 or newer and bubblewrap are needed; on Debian 12 they come with
`apt-get install -t bookworm-backports mkosi`, on Debian 13 with `apt-get install mkosi systemd-repart`.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from benchmarks.__main__ import Settings
from benchmarks.disk import BIG, CURRENT, REPOSITORY, build, make_disk
from benchmarks.measure import Ratio, measure, paired
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import MissingProgramError, find_program, run
from bootc_build.tools.buildah import remove_image, working_container
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.ext4_inspection import Inode, list_directories
from bootc_build.tools.sfdisk import read_table

_OLDEST = 24
_ROOT = """\
[Partition]
Type=root
Format=ext4
CopyFiles=/
SizeMinBytes=6G
"""
# depmod writes these again, and a newer one other bytes.
_DEPMOD = re.compile(r"/usr/lib/modules/[^/]+/modules\.")


def measure_all(settings: Settings) -> Iterator[Ratio | str]:
    """Ratios of wall times, for the image that is given and for one of 2 GB."""
    if (reason := _why_not()) is not None:
        yield f"raw / mkosi: not measured, {reason}"
        return
    os.environ["XDG_CACHE_HOME"] = str(settings.scratch / "cache")
    current, big = f"{REPOSITORY}:mkosi-current", f"{REPOSITORY}:mkosi-big"
    try:
        build(settings, CURRENT, settings.image, current)
        yield compare(settings, current, "400 MB", settings.rounds)
        build(settings, BIG, current, big)
        yield compare(settings, big, "2 GB", 1)
    finally:
        for image in (big, current):
            remove_image(image)


def compare(settings: Settings, image: str, size: str, rounds: int) -> Ratio:
    """One image's ratio.

    Raises:
        UserError: mkosi failed, or its disk has not the image's tree.
    """
    with working_container(image) as container:
        tree = container.mount()
        make_mkosi_disk(settings, tree)
        check_tree(settings.scratch / "mkosi/image.raw", tree)
        return paired(
            f"{size}, raw / mkosi",
            1.0,
            lambda: make_disk(settings, image, "raw"),
            lambda: make_mkosi_disk(settings, tree),
            rounds=rounds,
            warm_up=rounds > 1,
        )


def make_mkosi_disk(settings: Settings, tree: Path) -> float:
    """The seconds that mkosi takes; its disk stays as `mkosi/image.raw` until the next one.

    Raises:
        CommandError.
    """
    output, repart = settings.scratch / "mkosi", settings.scratch / "repart"
    shutil.rmtree(output, ignore_errors=True)
    for folder in (output, repart):
        folder.mkdir(exist_ok=True)
    (repart / "10-root.conf").write_text(_ROOT)
    # In a folder without a configuration, whatever the caller's has.
    command = ["mkosi", "--directory", str(repart), "--distribution", "custom", "--format", "disk"]
    command += ["--bootable", "no", "--base-tree", str(tree), "--repart-dir", str(repart)]
    command += ["--workspace-dir", str(settings.scratch), "--output-dir", str(output)]
    command += ["--output", "image", "--force", "build"]
    os.sync()
    return measure(command, settings.scratch / "log").wall


def check_tree(disk: Path, tree: Path) -> int:
    """Compare /usr on the disk with the tree's: names, kinds, permissions, owners and sizes of files.

    Returns:
        How many files and directories were compared.

    Raises:
        UserError: something is missing or differs.
    """
    table = read_table(disk)
    if table is None or len(table.partitions) != 1:
        raise UserError(f"mkosi's disk '{disk}' has not the one partition that was asked for.")
    [root] = table.partitions
    slot = Ext4Slot(disk, root.start, root.size)
    compared = 0
    level = ["/usr"]
    while level:
        found = list_directories(slot, level)
        following = []
        for folder in level:
            for entry in os.scandir(f"{tree}{folder}"):
                path = f"{folder}/{entry.name}"
                if _DEPMOD.match(path):
                    continue
                compared += 1
                there = found[folder].get(entry.name)
                if there is None or not _is_same(entry.stat(follow_symlinks=False), there):
                    raise UserError(f"{path} of mkosi's disk '{disk}' is not the image's: {there}.")
                if entry.is_dir(follow_symlinks=False):
                    following.append(path)
        level = following
    return compared


def _is_same(here: os.stat_result, there: Inode) -> bool:
    if (here.st_mode, here.st_uid, here.st_gid) != (there.mode, there.uid, there.gid):
        return False
    return not stat.S_ISREG(here.st_mode) or here.st_size == there.size


def _why_not() -> str | None:
    """What keeps mkosi from being measured."""
    try:
        find_program("mkosi")
    except MissingProgramError:
        return f"mkosi ({_OLDEST} or newer) is not installed"
    said = run(["mkosi", "--version"]).stdout
    version = re.search(r"\d+", said)
    if version is None or int(version[0]) < _OLDEST:
        return f"{said.strip()} is older than {_OLDEST}"
    return None
