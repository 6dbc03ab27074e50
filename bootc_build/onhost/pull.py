"""Bring an image into the repository: find out what it is, fetch what is missing, merge."""

from dataclasses import dataclass

from bootc_build.onhost.oci.manifest import ImageConfig, ImageManifest
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Progress


@dataclass(frozen=True)
class RemoteImage:
    """What a registry (or another source) says an image is; nothing of it is fetched yet."""

    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig


@dataclass(frozen=True)
class ImageMetadata:
    """What a merge commit says of the image that it was made from."""

    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig
    version: str | None
    created: str
    architecture: str


@dataclass(frozen=True)
class PulledImage:
    """An image that is wholly in the repository."""

    merge_commit: str
    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig
    already_present: bool


def probe(image: ImageReference) -> RemoteImage:
    """Ask what the image is now: manifest, configuration and digest; no layer is fetched.

    Raises:
        UserError: it cannot be had; names the image and what its registry answered.
    """
    raise NotImplementedError


def pull(
    repo: Repo,
    image: ImageReference,
    *,
    progress: Progress,
    install: bool = False,
    target: ImageReference | None = None,
) -> PulledImage:
    """Bring an image into the repository; an interrupted one goes on where it stopped.

    Args:
        repo: where to.
        image: where from.
        progress: hears of every layer.
        install: the repository is a scratch tree: do not wait for the disk.
        target: the name under which the image is recorded, when another than ``image``.

    Raises:
        UserError: not found, not allowed, wrong architecture, not bootable, no space, damaged.
    """
    raise NotImplementedError


def load_image_metadata(repo: Repo, commit: str) -> ImageMetadata | None:
    """What a merge commit says of its image; None for a commit that was not made from one.

    Raises:
        UserError: there is no such commit, or its metadata is malformed.
    """
    raise NotImplementedError
