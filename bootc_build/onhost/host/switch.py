"""Track another image."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import plain
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.bring import bring
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.host.stage import Queued, stage
from bootc_build.onhost.host.status import reference_status
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.mounts import enter_private_mounts, make_writable
from bootc_build.onhost.progress import Progress

_SYSROOT: Final = Path("/sysroot")


def switch(
    system: BootedSystem, target: ImageReference, *, retain: bool, progress: Progress
) -> Queued | None:
    """Bring another image and queue it; None when it is tracked already.

    Args:
        system: the running system, its lock held.
        target: the image.
        retain: keep the ref of the ostree branch that the system came from, where it came from one.
        progress: hears of the layers.

    Raises:
        UserError: it cannot be fetched, imported or staged.
    """
    if reference_status(target) == system.host.spec.image:
        return None
    origin = Origin.parse(system.slots.booted.origin)
    facts = None
    if origin.image is None:
        facts = plain.read_boot_facts(system.sysroot.repo_settings("sysroot"))
        plain.check_host(facts)
    pulled = bring(system, target, progress)
    if facts is not None:
        plain.check_image(facts, system.sysroot.repo, pulled.merge_commit)
    queued = stage(system, target, pulled, progress=progress)
    # Not before: what is refused leaves the host as it was.
    if origin.refspec is not None and not retain:
        system.sysroot.forget_branch(origin.refspec)
    return queued


def mutate_in_place(target: ImageReference, sysroot: Path = _SYSROOT) -> str:
    """Make the newest deployment track an image, without fetching it; returns the deployment's name.

    For installers that run in a system that is not booted yet: it works on files alone. Where that system is
    booted, its /sysroot is read-only, and made writable for this process.

    Raises:
        UserError: not root, there is no deployment, or its origin cannot be written.
    """
    if os.geteuid() != 0:
        raise UserError("this command requires root privileges", "Run it as root or with sudo.")
    deployments = sysroot / "ostree/deploy"
    roots = [path for path in deployments.glob("*/deploy/*") if path.is_dir()]
    if not roots:
        raise UserError(f"There is no deployment below {deployments}.", "Install the system first.")
    newest = max(roots, key=lambda path: path.stat().st_mtime)
    file = newest.with_name(f"{newest.name}.origin")
    if os.statvfs(newest.parent).f_flag & os.ST_RDONLY:
        enter_private_mounts()
        make_writable(os.fspath(sysroot))
    new = file.with_name(f"{file.name}.new")
    try:
        text = file.read_text(errors="replace") if file.exists() else ""
        new.write_text(Origin.parse(text).tracking(target.to_origin()).serialise())
        new.replace(file)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
    return newest.name
