"""Boot the previous system next; a second time, boot the present one after all."""

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import signals
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.next_boot import announce, digest_of


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
    digest = digest_of(system.sysroot.repo, next_boot)
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
    announce(system.sysroot)
    return not reverting
