"""The kernel, the user's rights, and space."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bootc_build.doctor.findings import Finding, Level
from bootc_build.tools import binfmt, rootless
from bootc_build.tools.cache import cache_folder, scratch_folder
from bootc_build.tools.sizes import GIB, MIB, in_words

_FILE_SYSTEMS = Path("/proc/filesystems")
_MEMORY = Path("/proc/meminfo")
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = ("tmpfs", "ramfs")
# What a base image of 400 MB takes on its way, from benchmarks of this project.
_STORAGE_BYTES, _SCRATCH_BYTES, _CACHE_BYTES = 3 * GIB, 2 * GIB, GIB
_MACHINE_BYTES = 1536 * MIB


def check_kernel() -> Iterator[Finding]:
    """Features of the kernel that is running."""
    try:
        known = _FILE_SYSTEMS.read_text().split()
    except OSError:
        known = []
    if "overlay" in known:
        yield Finding("overlay", Level.OK, "the kernel has overlay file systems")
    else:
        yield Finding(
            "overlay",
            Level.WARNING,
            "The kernel has no overlay file system (yet): layers would be whole copies.",
            "Load it with: modprobe overlay",
            "speed of image and disk",
        )
    registered = binfmt.interpreter("arm64")
    if registered:
        yield Finding("arm64 programs", Level.OK, f"run by {registered}")
    else:
        yield Finding(
            "arm64 programs",
            Level.WARNING,
            "Programs for arm64 cannot be run here.",
            binfmt.REMEDY,
            "base, image and disk for another architecture",
        )


def check_rights() -> Iterator[Finding]:
    """Root, or what an ordinary user needs instead."""
    if os.geteuid() == 0:
        yield Finding("rights", Level.OK, "this is root")
        return
    faults = rootless.namespace_faults()
    for fault in faults:
        yield Finding(
            "rights", Level.MISSING, fault.fact, fault.remedy, "base, image, disk without root"
        )
    if faults:
        return
    yield Finding("rights", Level.OK, f"{rootless.user()} can work without root")
    driver = rootless.storage_driver()
    if driver == "vfs":
        yield Finding(
            "storage driver",
            Level.WARNING,
            "This user's container storage copies every layer whole (driver vfs).",
            'Before anything is stored: put driver = "overlay" below [storage] into '
            "~/.config/containers/storage.conf",
            "speed and space of image and disk",
        )


def check_space(output: Path) -> Iterator[Finding]:
    """Space where something large is written, and memory.

    Args:
        output: folder that disks would be written to.
    """
    storage = rootless.storage_root()
    places = [
        ("temporary files", scratch_folder(), _SCRATCH_BYTES, "Set TMPDIR to another folder."),
        ("cache", cache_folder(), _CACHE_BYTES, "Set XDG_CACHE_HOME to another folder."),
        ("output", output, _STORAGE_BYTES, "Give another folder with --output."),
    ]
    if storage is not None:
        places.append(("container storage", storage, _STORAGE_BYTES, "podman image prune"))
    for name, folder, needed, remedy in places:
        yield _space(name, folder, needed, remedy)
    yield from _memory()


def _space(name: str, folder: Path, needed: int, remedy: str) -> Finding:
    place = folder.absolute()
    # Not Path.exists(): behind a folder that may not be entered it is an error.
    while not os.path.exists(place):  # noqa: PTH110
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "may not be written to by this user" if place.is_dir() else "is no folder"
        return Finding(name, Level.MISSING, f"{place} {what}.", remedy, "base, image, disk")
    free = shutil.disk_usage(place).free
    fact = f"{in_words(free)} free in {folder}"
    if free < needed:
        return Finding(
            name,
            Level.MISSING,
            f"{fact}, {in_words(needed)} are wanted.",
            f"Free some space. {remedy}",
            "base, image, disk",
        )
    if _is_in_memory(place):
        return Finding(
            name, Level.WARNING, f"{folder} lies in memory.", remedy, "large temporary files"
        )
    return Finding(name, Level.OK, fact)


def _is_in_memory(place: Path) -> bool:
    number = place.stat().st_dev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in _MOUNTS.read_text().splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in _IN_MEMORY
    return False


def _memory() -> Iterator[Finding]:
    fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    if available < _MACHINE_BYTES:
        yield Finding(
            "memory",
            Level.WARNING,
            f"{in_words(available)} of memory are free, a machine takes about 1.5 GiB.",
            "Close something, or give machines less: bootc-build run --memory 768",
            "run, test",
        )
    else:
        yield Finding("memory", Level.OK, f"{in_words(available)} free")
