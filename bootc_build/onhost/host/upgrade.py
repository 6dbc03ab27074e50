"""Follow the tracked image: look for another version of it, bring it, queue it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootc_build.onhost import pull
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import boot_record, preflight, signals
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.bring import bring
from bootc_build.onhost.host.changes import LayerChanges, layer_changes
from bootc_build.onhost.host.cleanup import tidy
from bootc_build.onhost.host.next_boot import announce
from bootc_build.onhost.host.stage import Queued, stage
from bootc_build.onhost.host.status import is_incompatible, tracked_image
from bootc_build.onhost.host.verdict import Verdict
from bootc_build.onhost.host.withdraw import withdraw
from bootc_build.onhost.oci.manifest import ImageManifest
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.metadata import ImageMetadata, load_image_metadata
from bootc_build.onhost.progress import Progress

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.deployment import Deployment

_CACHED_NAMES = tuple(
    f"ostree-ext.cached.{name}" for name in ("manifest-digest", "manifest", "config")
)
_NO_UPDATE = "No update available."
DOWNLOAD_ONLY = "Image downloaded, but will not be applied on reboot"
_RELEASED = "Staged deployment will now be applied on reboot"


@dataclass(frozen=True)
class Found:
    """What `check` found.

    Attributes:
        image: the tracked one.
        update: what is new of it, if anything is.
        changes: layers and bytes that differ.
        failed: what is remembered of it, where it was fallen back from.
        verdict: what stands against it, as far as can be told.
        withdrawn: what is queued although the tracked image is the booted one again.
    """

    image: ImageReference
    update: pull.RemoteImage | None
    changes: LayerChanges | None = None
    failed: boot_record.FailedImage | None = None
    verdict: Verdict | None = None
    withdrawn: ImageMetadata | None = None

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        update = None
        if self.update is not None:
            update = {
                "imageDigest": self.update.manifest_digest,
                "version": self.update.config.version,
                "addedBytes": None if self.changes is None else self.changes.added_bytes,
                "failed": None if self.failed is None else self.failed.to_dict(),
                "preflight": None if self.verdict is None else self.verdict.to_dict(),
            }
        withdrawn = None
        if self.withdrawn is not None:
            withdrawn = {
                "imageDigest": self.withdrawn.manifest_digest,
                "version": self.withdrawn.config.version,
            }
        return {"image": self.image.display, "update": update, "withdrawn": withdrawn}


@dataclass(frozen=True)
class Upgraded:
    """What `upgrade` did: queued something, or only has something to say."""

    queued: Queued | None = None
    changes: LayerChanges | None = None
    message: str = ""


def tracked(system: BootedSystem, tag: str | None = None) -> ImageReference:
    """The image to follow: that of the queued deployment, else of the booted one.

    Args:
        system: the running system.
        tag: follow another tag of the same repository.

    Raises:
        UserError: rpm-ostree changed the system, or it tracks no image.
    """
    candidates = [each for each in (system.slots.staged, system.slots.booted) if each is not None]
    if any(is_incompatible(each) for each in candidates):
        raise UserError(
            "Deployment contains local rpm-ostree modifications; cannot upgrade via bootc.",
            "You can run `rpm-ostree reset` to undo the modifications.",
        )
    image = tracked_image(candidates[0])
    if image is None:
        raise UserError("No image source specified.", "Choose one with: bootc switch IMAGE")
    return image if tag is None else image.with_tag(tag)


def _metadata(system: BootedSystem, deployment: "Deployment | None") -> ImageMetadata | None:
    if deployment is None:
        return None
    try:
        return load_image_metadata(system.sysroot.repo, deployment.checksum)
    except UserError:
        return None


def _same(known: ImageMetadata | None, digest: str, manifest: ImageManifest) -> bool:
    # An image that was pushed again under another compression is the same by its configuration.
    return known is not None and (
        known.manifest_digest == digest or known.manifest.config.digest == manifest.config.digest
    )


def check(system: BootedSystem, image: ImageReference) -> Found:
    """Ask whether there is another version of an image, without fetching it; `status` shows the answer.

    Raises:
        UserError: the image cannot be asked for.
    """
    remote = pull.probe(image)
    booted = _metadata(system, system.slots.booted)
    staged = _metadata(system, system.slots.staged)
    if _same(booted, remote.manifest_digest, remote.manifest):
        _remember(system, None)
        withdrawn = None
        if image == tracked_image(system.slots.booted):
            withdrawn = None if _same(staged, remote.manifest_digest, remote.manifest) else staged
        return Found(image, None, withdrawn=withdrawn)
    _remember(system, remote)
    if _same(staged, remote.manifest_digest, remote.manifest):
        return Found(image, None)
    changes = None if booted is None else layer_changes(booted, remote)
    verdict = preflight.foresee(system, image, remote)
    return Found(image, remote, changes, _find_failed(remote), verdict)


def _remember(system: BootedSystem, remote: pull.RemoteImage | None) -> None:
    """Lay what was found beside the booted commit, for `status`, and tell who watches that, if it is another."""
    repo = system.sysroot.repo
    commit = system.slots.booted.checksum
    found: dict[str, str | None] = dict.fromkeys(_CACHED_NAMES)
    if remote is not None:
        values = (remote.manifest_digest, remote.manifest.text, remote.config.text)
        found = dict(zip(_CACHED_NAMES, values, strict=True))
    before = repo.detached_metadata(commit)
    if any(before.get(name) != value for name, value in found.items()):
        repo.update_detached_metadata(commit, found)
        signals.status_changed(system.sysroot.path)


def _find_failed(described: pull.RemoteImage | pull.PulledImage) -> boot_record.FailedImage | None:
    return boot_record.find_failed(described.manifest_digest, described.manifest.config.digest)


def failed_message(image: ImageReference, failed: boot_record.FailedImage) -> str:
    """Why an image is not queued again."""
    version = "" if failed.version is None else f", version {failed.version},"
    return (
        f"The newest image of {image.display}{version} did not boot here, {failed.time}: {failed.reason}\n"
        f"  Digest: {failed.digest}\n"
        "It is not queued again: push a mended one, or try it once more with: bootc upgrade --retry-failed"
    )


def upgrade(
    system: BootedSystem,
    image: ImageReference,
    *,
    download_only: bool,
    progress: Progress,
    retry_failed: bool = False,
) -> Upgraded:
    """Bring the newest version of an image and queue it, unless it is booted or queued already.

    Args:
        system: the running system, its lock held.
        image: what to follow.
        download_only: bring it, but do not let the next boot use it.
        progress: hears of the layers.
        retry_failed: queue it even if it was fallen back from.

    Raises:
        UserError: it cannot be fetched, imported or staged.
    """
    if download_only:
        system.sysroot.check_can_hold()  # or all would be fetched first
    if boot_record.read_failed() and not retry_failed:
        failed = _find_failed(pull.probe(image))
        if failed is not None:
            return Upgraded(message=failed_message(image, failed))
    pulled = bring(system, image, progress)
    booted = _metadata(system, system.slots.booted)
    staged = system.slots.staged
    if staged is not None and _same(
        _metadata(system, staged), pulled.manifest_digest, pulled.manifest
    ):
        system.sysroot.repo.forget_unfinished()
        return _keep_staged(system, staged, download_only=download_only)
    if _same(booted, pulled.manifest_digest, pulled.manifest):
        system.sysroot.repo.forget_unfinished()
        if staged is None:
            tidy(system.sysroot)
            return Upgraded(message=_NO_UPDATE)
        if image == tracked_image(system.slots.booted):
            queued, message = withdraw(
                system, staged, image, pulled, progress=progress, hold=download_only
            )
            return Upgraded(queued, message=f"{_NO_UPDATE}\n{message}")
        # Another image is followed than the booted one, and it has to be queued for that.
    changes = None if booted is None else layer_changes(booted, pulled)
    queued = stage(system, image, pulled, progress=progress, hold=download_only)
    boot_record.forget(pulled.manifest_digest)
    return Upgraded(queued, changes)


def _keep_staged(system: BootedSystem, staged: "Deployment", *, download_only: bool) -> Upgraded:
    if staged.locked == download_only:
        return Upgraded(message="Staged update present, not changed")
    system.sysroot.change_hold(staged)
    announce(system.sysroot)
    return Upgraded(message=DOWNLOAD_ONLY if download_only else _RELEASED)


def release_downloaded(system: BootedSystem) -> str:
    """Let the next boot use what was downloaded; says what it did.

    Raises:
        UserError: nothing is queued, or rpm-ostree changed the system.
    """
    tracked(system)
    staged = system.slots.staged
    if staged is None:
        raise UserError("No staged deployment found.", "Download one with: bootc upgrade")
    if not staged.locked:
        return "Staged deployment is already set to apply on reboot"
    system.sysroot.change_hold(staged)
    announce(system.sysroot)
    return _RELEASED
