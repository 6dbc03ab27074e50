"""Tell others what boots next: those who reboot machines for updates, and those who watch the status."""

from contextlib import suppress
from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import signals, status
from bootc_build.onhost.ostree.metadata import load_image_metadata

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.deployment import Deployment
    from bootc_build.onhost.ostree.repo import Repo
    from bootc_build.onhost.ostree.sysroot import Sysroot


def digest_of(repo: "Repo", deployment: "Deployment") -> str:
    """The manifest digest of a deployment's image; its commit, where it has none or that is damaged."""
    with suppress(UserError):
        metadata = load_image_metadata(repo, deployment.checksum)
        if metadata is not None:
            return metadata.manifest_digest
    return deployment.checksum


def coming(slots: status.Slots) -> "Deployment | None":
    """What a reboot changes to: what is queued and not held back, else a rollback that is queued."""
    if slots.staged is not None and not slots.staged.locked:
        return slots.staged
    return slots.rollback if slots.rollback_queued else None


def announce(sysroot: "Sysroot") -> None:
    """Say what the deployments, as they are now, mean for the next boot; the lock is held."""
    slots = status.slots(sysroot.deployments())
    next_one = None if slots is None else coming(slots)
    if next_one is None:
        signals.no_reboot_required()
    else:
        signals.reboot_required(digest_of(sysroot.repo, next_one))
    signals.status_changed(sysroot.path)
