"""The status document: upstream bootc's ``BootcHost`` of ``org.containers.bootc/v1``, as frozen records.

`Host.to_dict` gives the document with upstream's field names in upstream's order, ready for JSON or
YAML. Optional parts that are absent are ``null``, except where upstream leaves the key out.
"""

from datetime import UTC, datetime
from typing import Final, Literal

from bootc_build.onhost.host.boot_record import BootHealth, FailedImage
from bootc_build.onhost.record import record

API_VERSION: Final = "org.containers.bootc/v1"
KIND: Final = "BootcHost"

Document = dict[str, object]
# `{"ostreeRemote": NAME}`, "containerPolicy" or "insecure".
Signature = dict[str, str] | Literal["containerPolicy", "insecure"]


@record
class ImageReferenceStatus:
    """An image reference as the document spells it: ``registry`` and ``quay.io/a/b:1``."""

    image: str
    transport: str
    signature: Signature | None = None

    def to_dict(self) -> Document:
        """The document's form; no signature, no key."""
        document: Document = {"image": self.image, "transport": self.transport}
        return document if self.signature is None else {**document, "signature": self.signature}

    @property
    def display(self) -> str:
        """For people: registries need no transport in front."""
        return self.image if self.transport == "registry" else f"{self.transport}:{self.image}"


@record
class ImageStatus:
    """An image that is on the host, or that could be."""

    image: ImageReferenceStatus
    version: str | None
    timestamp: datetime | None
    image_digest: str
    architecture: str

    def to_dict(self) -> Document:
        """The document's form."""
        return {
            "image": self.image.to_dict(),
            "version": self.version,
            "timestamp": None if self.timestamp is None else format_time(self.timestamp),
            "imageDigest": self.image_digest,
            "architecture": self.architecture,
        }


@record
class OstreeStatus:
    """Where libostree has a deployment."""

    stateroot: str
    checksum: str
    deploy_serial: int

    def to_dict(self) -> Document:
        """The document's form."""
        return {
            "stateroot": self.stateroot,
            "checksum": self.checksum,
            "deploySerial": self.deploy_serial,
        }


@record
class BootEntry:
    """One deployment. ``image`` is absent where it was not made from a container image."""

    image: ImageStatus | None
    cached_update: ImageStatus | None
    incompatible: bool
    pinned: bool
    download_only: bool
    ostree: OstreeStatus

    def to_dict(self) -> Document:
        """The document's form."""
        return {
            "image": None if self.image is None else self.image.to_dict(),
            "cachedUpdate": None if self.cached_update is None else self.cached_update.to_dict(),
            "incompatible": self.incompatible,
            "pinned": self.pinned,
            "softRebootCapable": False,
            "downloadOnly": self.download_only,
            "store": "ostreeContainer",
            "ostree": self.ostree.to_dict(),
            "composefs": None,
        }


@record
class UsrOverlay:
    """What is mounted over /usr: may it be written to, and does it survive a reboot?"""

    access_mode: Literal["readOnly", "readWrite"]
    persistence: Literal["transient", "persistent"]

    def to_dict(self) -> Document:
        """The document's form."""
        return {"accessMode": self.access_mode, "persistence": self.persistence}

    @property
    def display(self) -> str:
        """For people."""
        access = "read-only" if self.access_mode == "readOnly" else "read/write"
        return f"{self.persistence}, {access}"


@record
class HostStatus:
    """What is there. All empty on a machine that was not booted through ostree."""

    staged: BootEntry | None = None
    booted: BootEntry | None = None
    rollback: BootEntry | None = None
    other_deployments: tuple[BootEntry, ...] = ()
    rollback_queued: bool = False
    usr_overlay: UsrOverlay | None = None
    read_only: bool = False
    boot_health: BootHealth | None = None
    failed_images: tuple[FailedImage, ...] = ()
    finalize_failure: str | None = None

    def to_dict(self) -> Document:
        """The document's form; no other deployments, no key, and likewise what upstream does not have."""
        slots: Document = {
            name: None if entry is None else entry.to_dict()
            for name, entry in (
                ("staged", self.staged),
                ("booted", self.booted),
                ("rollback", self.rollback),
            )
        }
        if self.other_deployments:
            slots["otherDeployments"] = [entry.to_dict() for entry in self.other_deployments]
        is_host = self.booted is not None and self.booted.image is not None
        ours: Document = {}
        if self.boot_health is not None:
            ours["bootHealth"] = self.boot_health.to_dict()
        if self.failed_images:
            ours["failedImages"] = [each.to_dict() for each in self.failed_images]
        if self.finalize_failure is not None:
            ours["finalizeFailure"] = self.finalize_failure
        return {
            **slots,
            "rollbackQueued": self.rollback_queued,
            "type": "bootcHost" if is_host else None,
            "usrOverlay": None if self.usr_overlay is None else self.usr_overlay.to_dict(),
            "readOnly": self.read_only,
            **ours,
        }


@record
class HostSpec:
    """What is wanted: the image to track, and whether the rollback is booted next."""

    image: ImageReferenceStatus | None = None
    boot_order: Literal["default", "rollback"] = "default"

    def to_dict(self) -> Document:
        """The document's form."""
        return {
            "image": None if self.image is None else self.image.to_dict(),
            "bootOrder": self.boot_order,
        }


@record
class Host:
    """The whole document."""

    spec: HostSpec = HostSpec()
    status: HostStatus = HostStatus()

    def to_dict(self) -> Document:
        """The document's form."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": "host"},
            "spec": self.spec.to_dict(),
            "status": self.status.to_dict(),
        }

    def booted_only(self) -> "Host":
        """The document without the staged, rollback and other deployments."""
        status = HostStatus(
            booted=self.status.booted,
            rollback_queued=self.status.rollback_queued,
            usr_overlay=self.status.usr_overlay,
            read_only=self.status.read_only,
            boot_health=self.status.boot_health,
        )
        return Host(self.spec, status)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, as upstream writes it: ``2026-01-02T03:04:05Z``, with a fraction if it has one."""
    text = moment.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")
