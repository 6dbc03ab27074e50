"""What a boot came to: a complete one ends the count of its deployment's tries, a fall-back is made to last."""

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import boot_count, boot_record, signals
from bootc_build.onhost.host.document import format_time
from bootc_build.onhost.host.next_boot import announce
from bootc_build.onhost.host.running import read_slots
from bootc_build.onhost.host.status import tracked_image
from bootc_build.onhost.ostree.metadata import Commits, ImageMetadata, load_image_metadata
from bootc_build.onhost.ostree.sysroot_files import SysrootFiles

if TYPE_CHECKING:
    from bootc_build.onhost.host.booted import BootedSystem
    from bootc_build.onhost.ostree.deployment import Deployment

FELL_BACK_MESSAGE_ID: Final = "5f1b9a2c7d3e4c0b8a6f9d1e2c3b4a50"
BOOT_COMPLETE_MESSAGE_ID: Final = "0c7e2f4d9b8a4e63a1d5c6b7f8091a2b"


def name_of(deployment: "Deployment") -> str:
    """A deployment as the boot menu names it: ``CHECKSUM.SERIAL``."""
    return PurePosixPath(deployment.path).name


def mark_complete() -> None:
    """This boot is complete: its deployment is good from now on, and is on trial no more.

    Raises:
        UserError: the boot menu's count cannot be written.
    """
    booted = read_slots().booted
    boot_count.note_good(name_of(booted))
    metadata = _metadata(SysrootFiles(), booted)
    if metadata is not None:
        boot_record.forget(metadata.manifest_digest)
    boot_record.forget_notes(name_of(booted))
    signals.journal(
        f"Boot complete, deployment {name_of(booted)} is good",
        {"MESSAGE_ID": BOOT_COMPLETE_MESSAGE_ID, "BOOTC_OSTREE_COMMIT": booted.checksum},
    )


def keep_fall_back(system: "BootedSystem", why: str) -> boot_record.FailedImage | None:
    """The boot menu fell back to the booted deployment: make it the default, and remember what failed.

    Args:
        system: the running system, its lock held.
        why: ``tries`` or ``kernel``, in the words of the boot menu.

    Returns:
        What is remembered; None where the booted deployment is the default already.

    Raises:
        UserError: libostree cannot write the boot order.
    """
    real = [each for each in system.sysroot.deployments() if not each.staged]
    failed, booted = real[0], system.slots.booted
    if failed.booted:
        return None
    # At each step the menu falls back to the booted one still, should the power fail in between.
    boot_count.note_good(name_of(booted), keep_count=True)
    found = _describe(system, failed, why)
    boot_record.remember(found)
    system.sysroot.write_order([booted, *(each for each in real if not each.booted)])
    boot_count.note_good(name_of(booted))
    signals.journal(
        f"Fell back from {found.image} {found.digest}: {found.reason}",
        {
            "MESSAGE_ID": FELL_BACK_MESSAGE_ID,
            "PRIORITY": "3",
            "BOOTC_MANIFEST_DIGEST": found.digest,
            "BOOTC_OSTREE_COMMIT": failed.checksum,
        },
    )
    announce(system.sysroot)
    return found


def _describe(system: "BootedSystem", failed: "Deployment", why: str) -> boot_record.FailedImage:
    metadata = _metadata(system.sysroot.repo, failed)
    image = tracked_image(failed)
    notes = boot_record.read_notes(name_of(failed))
    reason = notes[0] if notes and why != "kernel" else boot_record.REASONS.get(why, why)
    return boot_record.FailedImage(
        digest="" if metadata is None else metadata.manifest_digest,
        config_digest="" if metadata is None else metadata.manifest.config.digest,
        image="" if image is None else image.display,
        version=None if metadata is None else metadata.version,
        deployment=name_of(failed),
        reason=reason,
        time=format_time(datetime.now(UTC).replace(microsecond=0)),
    )


def _metadata(commits: Commits, deployment: "Deployment") -> ImageMetadata | None:
    try:
        return load_image_metadata(commits, deployment.checksum)
    except UserError:
        return None
