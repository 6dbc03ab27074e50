"""Read what the system is: from deployments and commit metadata to the status document.

A deployment whose image metadata is damaged or gone still appears, without its image: `status` has to
answer on a host in any state.
"""

from collections.abc import Sequence
from typing import Literal

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.document import (
    BootEntry,
    Host,
    HostSpec,
    HostStatus,
    ImageReferenceStatus,
    ImageStatus,
    OstreeStatus,
    Signature,
    UsrOverlay,
)
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.oci.manifest import (
    ANNOTATION_CREATED,
    ImageConfig,
    parse_config,
    parse_time,
)
from bootc_build.onhost.oci.reference import ImageReference, Verification
from bootc_build.onhost.ostree.deployment import Deployment
from bootc_build.onhost.ostree.metadata import Commits, load_image_metadata
from bootc_build.onhost.record import record

_CACHED = "ostree-ext.cached."
_OVERLAYS: dict[str, UsrOverlay] = {
    "development": UsrOverlay("readWrite", "transient"),
    "hotfix": UsrOverlay("readWrite", "persistent"),
    "transient": UsrOverlay("readOnly", "transient"),
}


@record
class Slots:
    """The deployments by role, in relation to the one that runs."""

    staged: Deployment | None
    booted: Deployment
    rollback: Deployment | None
    other: tuple[Deployment, ...]

    @property
    def rollback_queued(self) -> bool:
        """Whether the rollback is what boots next."""
        return self.rollback is not None and self.rollback.index < self.booted.index


def slots(deployments: Sequence[Deployment]) -> Slots | None:
    """Sort deployments into roles; None when none of them runs."""
    booted = next((each for each in deployments if each.booted), None)
    if booted is None:
        return None
    related = [each for each in deployments if each.stateroot == booted.stateroot]
    foreign = [each for each in deployments if each.stateroot != booted.stateroot]
    staged = next((each for each in related if each.staged), None)
    rest = [each for each in related if each not in (staged, booted)]
    return Slots(staged, booted, rest[0] if rest else None, (*rest[1:], *foreign))


def reference_status(reference: ImageReference) -> ImageReferenceStatus:
    """An image reference as the document spells it."""
    signature: Signature
    match reference.policy.verification:
        case Verification.OSTREE_REMOTE:
            signature = {"ostreeRemote": reference.policy.remote}
        case Verification.CONTAINER_POLICY:
            signature = "containerPolicy"
        case Verification.INSECURE:
            return ImageReferenceStatus(reference.name, reference.transport)
    return ImageReferenceStatus(reference.name, reference.transport, signature)


def _image_status(image: ImageReferenceStatus, digest: str, config: ImageConfig) -> ImageStatus:
    created = config.labels.get(ANNOTATION_CREATED) or config.created
    return ImageStatus(
        image=image,
        version=config.version,
        timestamp=parse_time(created) if created else None,
        image_digest=digest,
        architecture=config.architecture,
    )


def cached_update(repo: Commits, commit: str, image: ImageReferenceStatus) -> ImageStatus | None:
    """What the last `upgrade --check` found for a booted commit; nothing where it is unreadable."""
    found = repo.detached_metadata(commit)
    digest, config = found.get(_CACHED + "manifest-digest"), found.get(_CACHED + "config")
    if not isinstance(digest, str) or not isinstance(config, str):
        return None
    try:
        return _image_status(image, digest, parse_config(config))
    except UserError:
        return None


def tracked_image(deployment: Deployment) -> ImageReference | None:
    """The image that a deployment's origin names, if it does so readably."""
    try:
        text = Origin.parse(deployment.origin).image
        return None if text is None else ImageReference.parse_origin(text)
    except UserError:
        return None


def is_incompatible(deployment: Deployment) -> bool:
    """Whether rpm-ostree changed this deployment locally."""
    try:
        return Origin.parse(deployment.origin).incompatible
    except UserError:
        return False


def _entry(repo: Commits, deployment: Deployment) -> BootEntry:
    incompatible = is_incompatible(deployment)
    reference = None if incompatible else tracked_image(deployment)
    image = cached = None
    if reference is not None:
        try:
            metadata = load_image_metadata(repo, deployment.checksum)
        except UserError:
            metadata = None
        if metadata is not None:
            spelled = reference_status(reference)
            image = _image_status(spelled, metadata.manifest_digest, metadata.config)
            cached = cached_update(repo, deployment.checksum, spelled)
    return BootEntry(
        image=image,
        cached_update=cached,
        incompatible=incompatible,
        pinned=deployment.pinned,
        download_only=deployment.locked,
        ostree=OstreeStatus(deployment.stateroot, deployment.checksum, deployment.serial),
    )


def read_host(deployments: Sequence[Deployment], repo: Commits, *, read_only: bool = False) -> Host:
    """The status document of a sysroot; an empty one when none of its deployments runs.

    Args:
        deployments: all of the sysroot, in boot order.
        repo: where their commits are.
        read_only: the medium itself cannot be written to.
    """
    roles = slots(deployments)
    if roles is None:
        return Host()
    staged = None if roles.staged is None else _entry(repo, roles.staged)
    booted = _entry(repo, roles.booted)
    order: Literal["default", "rollback"] = "rollback" if roles.rollback_queued else "default"
    image = (staged or booted).image
    return Host(
        spec=HostSpec() if image is None else HostSpec(image.image, order),
        status=HostStatus(
            staged=staged,
            booted=booted,
            rollback=None if roles.rollback is None else _entry(repo, roles.rollback),
            other_deployments=tuple(_entry(repo, each) for each in roles.other),
            rollback_queued=roles.rollback_queued,
            usr_overlay=_OVERLAYS.get(roles.booted.overlay.value),
            read_only=read_only,
        ),
    )
