"""The container storage that belongs to bootc: ``/sysroot/ostree/bootc/storage``, seen as /usr/lib/bootc/storage.

podman does all work in it, with ``--root``. podman writes the path of its root into its database, so it always
sees the storage at one place, where it is bind-mounted for this process alone (upstream does the same, at the same
place). Images are there as long as a deployment binds them.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.imageproxy import find_auth_file
from bootc_build.onhost.ostree.mounts import enter_private_mounts
from bootc_build.onhost.progress import Progress

STORAGE: Final = "ostree/bootc/storage"
_ALIAS: Final = Path("/run/bootc/storage")
_RUN: Final = Path("/run/bootc/storage-run")
_NO_AUTH: Final = Path("/run/bootc/no-auth.json")
_ABSENT: Final = 1  # podman-image-exists(1); whatever fails has another status
_NO_IMAGE: Final = "does not resolve to an image ID"  # skopeo's words
_PODMAN_REMEDY: Final = (
    "The image binds container images, so it has to bring podman: install it in the Containerfile."
)


@dataclass(frozen=True)
class StoredImage:
    """One image in the storage."""

    id: str
    names: tuple[str, ...]


class BoundStorage:
    """The storage while it is mounted; made by `open_storage`."""

    def images(self) -> list[StoredImage]:
        """All images."""
        found = json.loads(self.image("list", "--format", "json", "--no-trunc") or "[]")
        return [StoredImage(each["Id"], tuple(each.get("Names") or ())) for each in found]

    def find(self, image: str) -> str | None:
        """Id of an image by name, or None where it is not there.

        Raises:
            CommandError: podman cannot tell; what is not known to be absent is not fetched anew, nor removed.
        """
        inspect = [*self.command("image"), "inspect", "--format", "{{.Id}}", image]
        done = process.run(inspect, check=False, env=_environment())
        if done.status == 0:
            return done.stdout.strip()
        exists = [*self.command("image"), "exists", image]
        if process.run(exists, check=False, env=_environment()).status == _ABSENT:
            return None
        raise process.CommandError(inspect, done.status, done.stderr)

    def image(self, *arguments: str, remedy: str = "") -> str:
        """Run ``podman image`` with arguments; its output.

        Raises:
            MissingProgramError, CommandError.
        """
        command = [*self.command("image"), *arguments]
        return process.run(command, env=_environment(), remedy=remedy).stdout

    def run_image_command(self, arguments: Sequence[str]) -> int:
        """Run ``podman image`` with its output going where this process's goes; its exit status."""
        command = [*self.command("image"), *arguments]
        with process.running(command, env=_environment()) as running:
            return running.wait()

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """Arguments of podman for this storage."""
        return ["podman", "--root", str(_ALIAS), "--runroot", str(_RUN), *arguments]

    @property
    def reference(self) -> str:
        """What stands before an image's name for skopeo."""
        return f"containers-storage:[overlay@{_ALIAS}+{_RUN}]"


def _environment() -> dict[str, str]:
    # Never the credentials of whoever is logged in: a reboot later they would not be there.
    auth = find_auth_file()
    if auth is None:
        _NO_AUTH.write_text("{}\n")
        auth = _NO_AUTH
    return {"REGISTRY_AUTH_FILE": str(auth)}


@contextmanager
def open_storage(sysroot: Path) -> Iterator[BoundStorage]:
    """Mount the storage of a sysroot for this process and work in it; it is made where there is none.

    Raises:
        MissingProgramError: there is no podman.
        UserError: it cannot be mounted.
    """
    process.find_program("podman", _PODMAN_REMEDY)
    place = sysroot / STORAGE
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    enter_private_mounts()
    for each in (_ALIAS, _RUN):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    process.run(["mount", "--bind", str(place), str(_ALIAS)])
    try:
        yield BoundStorage()
    finally:
        # podman leaves a mount of its own below when it used the overlay driver.
        process.run(["umount", "--recursive", "--lazy", str(_ALIAS)], check=False)


def pull(sysroot: Path, images: Sequence[str], progress: Progress) -> None:
    """Bring images into the storage, those that are there already excepted.

    Raises:
        UserError: one cannot be had; names it.
    """
    if not images:
        return
    with open_storage(sysroot) as storage:
        for image in images:
            if storage.find(image) is None:
                progress.step(f"Fetching bound image {image}")
                storage.image("pull", "--quiet", image, remedy=f"The system needs {image}.")


def copy_stored(sysroot: Path, images: Sequence[str], progress: Progress) -> None:
    """Copy images from the host's own container storage into a sysroot's.

    Raises:
        UserError: one is not there; names it.
    """
    if not images:
        return
    with open_storage(sysroot) as storage:
        # podman is the first to touch it, so that its database says what podman wants.
        storage.images()
        for image in images:
            progress.step(f"Copying bound image {image}")
            _copy(storage, image, "or install with --bound-images pull or skip")


def copy_one(sysroot: Path, image: str, progress: Progress) -> None:
    """Copy an image from the host's own container storage into a sysroot's, bound or not.

    Raises:
        UserError: it is not there.
    """
    with open_storage(sysroot) as storage:
        storage.images()  # as above
        progress.step(f"Copying image {image}")
        _copy(storage, image)


def _copy(storage: BoundStorage, image: str, otherwise: str = "") -> None:
    first = ["skopeo", "copy", "--quiet", "--remove-signatures", "--insecure-policy"]
    names = [f"containers-storage:{image}", f"{storage.reference}{image}"]
    pull_it = f"Pull it on the host first: podman pull {image}"
    remedy = f"{pull_it}; {otherwise}." if otherwise else pull_it
    try:
        process.run([*first, *names], remedy=remedy)
    except process.CommandError as error:
        if _NO_IMAGE not in error.tail:
            raise
        raise UserError(f"There is no image '{image}' in podman's storage.", remedy) from error


def prune(sysroot: Path, needed: Iterable[str]) -> int:
    """Remove what is not needed; how many went. Nothing happens where there is no storage or no podman.

    Args:
        sysroot: whose storage.
        needed: names of the images that stay.

    Raises:
        CommandError: podman cannot.
    """
    place = sysroot / STORAGE
    if not place.is_dir() or not any(os.scandir(place)):
        return 0
    with suppress(process.MissingProgramError), open_storage(sysroot) as storage:
        stored = storage.images()
        if not stored:
            return 0
        keep = {storage.find(image) for image in needed}
        gone = sorted({each.id for each in stored if each.id not in keep})
        if gone:
            storage.image("rm", "--force", *gone)
        return len(gone)
    return 0


def check_podman(images: Sequence[str]) -> None:
    """Make sure that there is podman where there are images.

    Raises:
        UserError: there is none.
    """
    if images:
        try:
            process.find_program("podman", _PODMAN_REMEDY)
        except process.MissingProgramError as error:
            raise UserError(
                f"{error.fact} It is needed for the bound image {images[0]}.", error.remedy
            ) from error
