"""Change the kernel arguments of the host: a new deployment of what it has, with other arguments."""

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import kargs
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.host.stage import queue
from bootc_build.onhost.ostree.metadata import load_image_metadata


def change_kargs(system: BootedSystem, edits: kargs.Edits) -> kargs.Arguments | None:
    """Queue the booted image, or the one that is queued already, with changed arguments.

    Returns:
        The new arguments; None when the changes change nothing.

    Raises:
        UserError: a change is not possible; libostree cannot.
    """
    base = system.slots.staged or system.slots.booted
    current = kargs.of_deployment(base.options)
    new = kargs.edited(current, edits)
    if new == current:
        return None
    try:
        image = load_image_metadata(system.sysroot.repo, base.checksum)
    except UserError:
        image = None  # a tree that no image was made of has arguments, too
    queue(
        system,
        base.checksum,
        Origin.parse(base.origin).lasting(),
        new,
        digest=base.checksum if image is None else image.manifest_digest,
        hold=base.locked,
    )
    return new
