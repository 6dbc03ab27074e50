"""Disks of images, kept for the next time the same image is booted.

Layout: `image-disks/KEY/disk.raw` in the cache folder, KEY being a digest of the image's id, what the host
follows, the kernel arguments and the version of this program. For locks, bound and crashes see
:mod:`bootc_build.tools.shelf`; a disk that this process has asked for counts as in use until the process ends.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from bootc_build import __version__
from bootc_build.disk.build import DiskRequest, build_disk
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Progress
from bootc_build.tools.cache import cache_folder
from bootc_build.tools.podman import image_store
from bootc_build.tools.shelf import Held, Shelf, chosen_bound
from bootc_build.tools.sizes import GIB

DEFAULT_BOUND = 16 * GIB
BOUND_VARIABLE = "BOOTC_BUILD_DISK_CACHE"
# Room for whatever is tried out; most of it is a hole.
_DISK_BYTES = 10 * GIB
_held: dict[Path, Held] = {}


def disk_shelf(*, folder: Path | None = None) -> Shelf:
    """Where disks are kept: bounded by $BOOTC_BUILD_DISK_CACHE, or 16 GiB.

    Args:
        folder: the cache; by default the user's.
    """
    place = (folder or cache_folder()) / "image-disks"
    return Shelf(place, chosen_bound(BOUND_VARIABLE, DEFAULT_BOUND))


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
    key = hashlib.sha256(facts.encode()).hexdigest()[:24]

    def make(place: Path) -> None:
        if os.geteuid() != 0:
            raise UserError(
                "Making a disk needs the rights of the users whose files are in the image.",
                "Run it inside: buildah unshare",
            )
        request = DiskRequest(
            image,
            [DiskType.RAW],
            output=place,
            size=_DISK_BYTES,
            target=target,
            kargs=kargs,
            manifest=False,
        )
        build_disk(request, progress)

    held = disk_shelf(folder=folder).obtain(key, make)
    if _held.setdefault(held.path, held) is not held:
        held.close()
    return held.path / "disk.raw"
