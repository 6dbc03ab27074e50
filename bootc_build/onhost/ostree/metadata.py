"""What a merge commit says of the image that it was made from.

Apart from importing and merging, so that `bootc status` need not load what does those.
"""

from typing import Final, Protocol

from bootc_build.onhost.oci.manifest import ImageConfig, ImageManifest, parse_config, parse_manifest
from bootc_build.onhost.record import record

META_MANIFEST_DIGEST: Final = "ostree.manifest-digest"
META_MANIFEST: Final = "ostree.manifest"
META_CONFIG: Final = "ostree.container.image-config"

_EMPTY_CONFIG: Final = '{"architecture":"","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


class Commits(Protocol):
    """Where the metadata of commits is read: the repository through libostree, or its files."""

    def commit_metadata(self, commit: str) -> dict[str, object]:
        """Metadata that was written with a commit."""

    def detached_metadata(self, commit: str) -> dict[str, object]:
        """Metadata that was laid beside a commit later."""


@record
class ImageMetadata:
    """What a merge commit says of the image that it was made from."""

    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig

    @property
    def version(self) -> str | None:
        """The version that the image says it has."""
        return self.config.version

    @property
    def created(self) -> str:
        """When the image was made (RFC 3339), or empty."""
        return self.config.created

    @property
    def architecture(self) -> str:
        """The architecture in OCI's words: amd64, arm64 and so on."""
        return self.config.architecture


def load_image_metadata(repo: Commits, commit: str) -> ImageMetadata | None:
    """What a merge commit says of its image; None for a commit that was not made from one.

    Raises:
        UserError: there is no such commit, or its metadata is malformed.
    """
    found = repo.commit_metadata(commit)
    digest, manifest = found.get(META_MANIFEST_DIGEST), found.get(META_MANIFEST)
    if not isinstance(digest, str) or not isinstance(manifest, str):
        return None
    config = found.get(META_CONFIG)
    if not isinstance(config, str) or config == "null":
        config = _EMPTY_CONFIG  # the first versions of upstream wrote none
    return ImageMetadata(digest, parse_manifest(manifest), parse_config(config))
