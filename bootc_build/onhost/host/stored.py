"""Which images a host keeps: its own versions, those in bootc's container storage, those that it binds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost import process
from bootc_build.onhost.bound.spec import bound_images
from bootc_build.onhost.bound.storage import STORAGE, open_storage
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.booted import waiting_message
from bootc_build.onhost.host.running import require_booted_host
from bootc_build.onhost.image_tree import RootTree
from bootc_build.onhost.oci.refnames import IMAGE_PREFIX, unescape


@dataclass(frozen=True)
class ListedImage:
    """One line: the image's name, and ``host``, ``unified`` or ``logical``, in upstream's words."""

    image: str
    kind: str


def list_images(kind: str, say: Callable[[str], None]) -> list[ListedImage]:
    """The images of a kind: ``host``, ``logical`` or ``all``. In a container there are only logical ones.

    Args:
        kind: which.
        say: told for whom it waits, when somebody else changes the system.

    Raises:
        UserError: host images are asked for, and this is no booted host; a bound image's file is wrong.
    """
    listed: list[ListedImage] = []
    is_host = Path("/run/ostree-booted").exists()
    if kind == "host" and not is_host:
        raise UserError("Listing host images requires a booted bootc system.")
    if kind != "logical" and is_host:
        require_booted_host()
        listed += _host_images(say)
    if kind != "host":
        listed += [ListedImage(image, "logical") for image in bound_images(RootTree(Path("/")))]
    return listed


def _host_images(say: Callable[[str], None]) -> list[ListedImage]:
    from bootc_build.onhost.ostree.sysroot import open_system  # noqa: PLC0415 - libostree takes time

    sysroot = open_system(writing=True)
    refs = sysroot.repo.refs(IMAGE_PREFIX)
    own = [unescape(ref.removeprefix(f"{IMAGE_PREFIX}/")) for ref in sorted(refs)]
    listed = [ListedImage(image, "host") for image in own]
    if (sysroot.path / STORAGE).is_dir():
        try:
            # podman writes its lock file even to look; the lock of the sysroot makes that possible.
            locked = sysroot.locked(on_wait=lambda: say(waiting_message()))
            with locked, open_storage(sysroot.path) as storage:
                names = sorted(name for each in storage.images() for name in each.names)
        except process.MissingProgramError:
            names = []
        listed += [ListedImage(name, "unified") for name in names]
    return listed
