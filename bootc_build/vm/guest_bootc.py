"""The guest's `bootc`, its answers as typed records."""

import json
import shlex
from dataclasses import dataclass
from typing import Any

from bootc_build.vm.errors import GuestCommandError
from bootc_build.vm.guest import Guest


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


class BootcCommand:
    """The guest's `bootc`, with typed answers."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def status(self) -> HostStatus:
        """What `bootc status` says."""
        return parse_status(self._guest.succeed("bootc status --format json"))

    @property
    def booted(self) -> Deployment:
        """The deployment that runs.

        Raises:
            GuestCommandError: the guest was not booted from an image.
        """
        return _required(self.status().booted, "booted")

    @property
    def staged(self) -> Deployment:
        """The deployment that the next boot will start.

        Raises:
            GuestCommandError: none is staged.
        """
        return _required(self.status().staged, "staged")

    @property
    def rollback_target(self) -> Deployment:
        """The deployment that a rollback goes back to.

        Raises:
            GuestCommandError: there is none.
        """
        return _required(self.status().rollback, "rollback")

    def upgrade(self, arguments: str = "", *, seconds: float = 600.0) -> str:
        """Run `bootc upgrade` and return what it prints (scaled seconds)."""
        return self._guest.succeed(f"bootc upgrade {arguments}".strip(), seconds=seconds)

    def switch(self, target: str, arguments: str = "", *, seconds: float = 600.0) -> str:
        """Run `bootc switch` and return what it prints (scaled seconds)."""
        command = f"bootc switch {arguments} {shlex.quote(target)}"
        return self._guest.succeed(command, seconds=seconds)

    def rollback(self) -> str:
        """Run `bootc rollback` and return what it prints."""
        return self._guest.succeed("bootc rollback")


def _required(deployment: Deployment | None, slot: str) -> Deployment:
    if deployment is None:
        raise GuestCommandError(f"'bootc status' shows no {slot} deployment")
    return deployment
