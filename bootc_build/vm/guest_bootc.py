"""The guest's `bootc`, its answers as typed records."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bootc_build.vm.errors import GuestCommandError
from bootc_build.vm.guest import Guest

# The manifest as ostree prints it: a string of canonical JSON.
_CONFIG = re.compile(r'"config":\s*\{[^{}]*"digest":\s*"(sha256:[0-9a-f]{64})"')


class DeployedImage(str):
    """The reference that a deployment tracks, as text that also knows which image is deployed."""

    __slots__ = ("__dict__",)
    _find: Callable[[], str]

    @classmethod
    def of(cls, reference: str, find: Callable[[], str]) -> "DeployedImage":
        """A reference; `find` asks the guest for the digest of the configuration."""
        image = cls(reference)
        image._find = find
        return image

    @cached_property
    def config_digest(self) -> str:
        """The digest ("sha256:…") of the image's configuration, which is its id in local storage.

        Unlike the manifest's it stays the same when an image is pushed and its layers are compressed.

        Raises:
            MachineError: the guest does not answer any more.
            GuestCommandError: it has no such deployment any more.
        """
        return self._find()


@dataclass(frozen=True)
class Deployment:
    """One deployment of the guest.

    Args:
        image: the reference that it tracks; None for one that came from elsewhere. A text; compared with a
            `bootc_build.testing.Image` it says whether that is what is deployed.
        transport: how that image is fetched, such as "registry".
        version: the image's version label.
        digest: of the image's manifest.
        checksum: of the ostree commit.
        serial: of the deployment.
        pinned: it is never collected.
    """

    image: DeployedImage | None
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


def parse_status(text: str, find_config: Callable[[str], str]) -> HostStatus:
    """Read the document that `bootc status --format json` prints.

    Args:
        text: the document.
        find_config: gives the digest of an image's configuration by the checksum of its commit.

    Raises:
        GuestCommandError: it is no such document.
    """
    try:
        document = json.loads(text)
        status = document["status"]
        return HostStatus(
            booted=_deployment(status.get("booted"), find_config),
            staged=_deployment(status.get("staged"), find_config),
            rollback=_deployment(status.get("rollback"), find_config),
            rollback_queued=bool(status.get("rollbackQueued")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GuestCommandError(
            "'bootc status' printed something else than a status", text
        ) from error


def _deployment(
    entry: dict[str, Any] | None, find_config: Callable[[str], str]
) -> Deployment | None:
    if entry is None:
        return None
    image = entry.get("image") or {}
    reference = image.get("image") or {}
    ostree = entry.get("ostree") or {}
    name, checksum = reference.get("image"), ostree.get("checksum")
    return Deployment(
        image=None if name is None else DeployedImage.of(name, lambda: find_config(str(checksum))),
        transport=reference.get("transport"),
        version=image.get("version"),
        digest=image.get("imageDigest"),
        checksum=checksum,
        serial=ostree.get("deploySerial"),
        pinned=bool(entry.get("pinned")),
    )


class BootcCommand:
    """The guest's `bootc`, with typed answers."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._configs: dict[str, str] = {}

    def status(self) -> HostStatus:
        """What `bootc status` says."""
        return parse_status(self._guest.succeed("bootc status --format json"), self._config)

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

    def _config(self, checksum: str) -> str:
        if checksum not in self._configs:
            show = f"ostree show --print-metadata-key=ostree.manifest {shlex.quote(checksum)}"
            manifest = self._guest.succeed(show)
            found = _CONFIG.search(manifest)
            if found is None:
                raise GuestCommandError("The deployed image's manifest names no config", manifest)
            self._configs[checksum] = found[1]
        return self._configs[checksum]


def _required(deployment: Deployment | None, slot: str) -> Deployment:
    if deployment is None:
        raise GuestCommandError(f"'bootc status' shows no {slot} deployment")
    return deployment
