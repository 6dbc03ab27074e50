"""Boot the previous system next; a second time, boot the present one after all."""

from contextlib import suppress

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import signals
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.ostree.metadata import load_image_metadata


def rollback(system: BootedSystem) -> bool:
    """Swap the boot order of the booted deployment and the rollback; a queued one is dropped.

    Returns:
        Whether the rollback boots next; False when a queued rollback was taken back.

    Raises:
        UserError: there is nothing to roll back to, or libostree cannot.
    """
    slots = system.slots
    if slots.rollback is None:
        raise UserError(
            "No rollback available.", "There is one after an upgrade was booted: bootc status"
        )
    reverting = slots.rollback_queued
    pair = (slots.booted, slots.rollback) if reverting else (slots.rollback, slots.booted)
    next_boot = pair[0]
    repo = system.sysroot.repo
    metadata = None
    # What the image was is only told; a system whose commit is damaged is still better than one that fails.
    with suppress(UserError):
        metadata = load_image_metadata(repo, next_boot.checksum)
    digest = next_boot.checksum if metadata is None else metadata.manifest_digest
    system.sysroot.write_order([*pair, *slots.other])
    signals.journal(
        f"Rolling back to image: {digest}",
        {
            "MESSAGE_ID": signals.ROLLBACK_MESSAGE_ID,
            "BOOTC_MANIFEST_DIGEST": digest,
            "BOOTC_OSTREE_COMMIT": next_boot.checksum,
            "BOOTC_ROLLBACK_TYPE": "revert" if reverting else "rollback",
        },
    )
    if reverting:
        signals.no_reboot_required()
    else:
        signals.reboot_required(digest)
    signals.status_changed(system.sysroot.path)
    return not reverting
