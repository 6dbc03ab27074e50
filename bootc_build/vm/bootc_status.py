"""The guest's `bootc status` as typed records."""

import json
from dataclasses import dataclass
from typing import Any

from bootc_build.vm.errors import GuestCommandError


@dataclass(frozen=True)
class Deployment:
    """One deployment of the guest.

    Args:
        image: the reference that it tracks; None for one that came from elsewhere.
        transport: how that image is fetched, such as "registry".
        version: the image's version label.
        digest: of the image's manifest.
        checksum: of the ostree commit.
        serial: of the deployment.
        pinned: it is never collected.
    """

    image: str | None
    transport: str | None
    version: str | None
    digest: str | None
    checksum: str | None
    serial: int | None
    pinned: bool


@dataclass(frozen=True)
class HostStatus:
    """The deployments of the guest: what runs, what comes next, what can be gone back to."""

    booted: Deployment | None
    staged: Deployment | None
    rollback: Deployment | None
    rollback_queued: bool


def parse_status(text: str) -> HostStatus:
    """Read the document that `bootc status --format json` prints.

    Raises:
        GuestCommandError: it is no such document.
    """
    try:
        document = json.loads(text)
        status = document["status"]
        return HostStatus(
            booted=_deployment(status.get("booted")),
            staged=_deployment(status.get("staged")),
            rollback=_deployment(status.get("rollback")),
            rollback_queued=bool(status.get("rollbackQueued")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GuestCommandError(
            "'bootc status' printed something else than a status", text
        ) from error


def _deployment(entry: dict[str, Any] | None) -> Deployment | None:
    if entry is None:
        return None
    image = entry.get("image") or {}
    reference = image.get("image") or {}
    ostree = entry.get("ostree") or {}
    return Deployment(
        image=reference.get("image"),
        transport=reference.get("transport"),
        version=image.get("version"),
        digest=image.get("imageDigest"),
        checksum=ostree.get("checksum"),
        serial=ostree.get("deploySerial"),
        pinned=bool(entry.get("pinned")),
    )
