"""Disks of images, kept for the next time the same image is booted.

Layout: `disks/KEY/disk.raw` in the cache folder, KEY being a digest of the image's id, what the host follows,
the kernel arguments and the version of this program. Who makes a disk holds an exclusive lock on
`disks/lock`; who finds one needs none, because it appears by rename. Of the disks only the newest few stay;
a machine that still runs on a removed one goes on, since its file is open.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootc_build import __version__
from bootc_build.disk.build import DiskRequest, build_disk
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Progress
from bootc_build.tools.cache import cache_folder
from bootc_build.tools.podman import image_store

_KEPT = 4


def cached_disk(
    image: str,
    progress: Progress,
    *,
    target: ImageReference | None = None,
    kargs: Sequence[str] = (),
    folder: Path | None = None,
) -> Path:
    """A raw disk of an image of local storage; made if there is none yet. Nobody may write to it.

    Args:
        image: name or id.
        progress: who listens.
        target: what the host follows; by default the image's own name.
        kargs: more kernel arguments.
        folder: the cache; by default the user's.

    Raises:
        UserError: as :func:`build_disk` does.
    """
    with image_store() as store:
        identifier = store.get(image).id
    follows = target.to_origin() if target else image
    facts = json.dumps([identifier, follows, list(kargs), __version__])
    disks = (folder or cache_folder()) / "disks"
    place = disks / hashlib.sha256(facts.encode()).hexdigest()[:24]
    disk = place / "disk.raw"
    if not disk.exists():
        if os.geteuid() != 0:
            raise UserError(
                "Making a disk needs root, to keep the owners of the image's files.",
                "Run it with sudo.",
            )
        with _locked(disks):
            if not disk.exists():
                request = DiskRequest(
                    image, [DiskType.RAW], output=place, target=target, kargs=kargs
                )
                build_disk(request, progress)
            os.utime(place)
            _remove_old(disks)
    return disk


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_old(disks: Path) -> None:
    places = sorted(
        (path for path in disks.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for place in places[:-_KEPT]:
        shutil.rmtree(place, ignore_errors=True)
