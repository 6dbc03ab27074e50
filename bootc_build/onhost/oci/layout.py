"""Read an image from an OCI layout on this machine's disk, without a helper process.

`bootc install` reads its own image that way, and half of what skopeo would do for it is done again here: blobs
are hashed as they are imported. Only the plain case is read: one manifest under the wanted name, and nothing in
policy.json to ask of it. Everything else is skopeo's.

Format: the OCI image layout specification.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.imageproxy import OpenedImage, open_image
from bootc_build.onhost.oci.manifest import (
    Descriptor,
    ImageConfig,
    ImageManifest,
    parse_config,
    parse_manifest,
)
from bootc_build.onhost.oci.policy import asks_nothing_of_layouts
from bootc_build.onhost.oci.reference import ImageReference, Verification

_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_NAME: Final = "org.opencontainers.image.ref.name"


class LayoutImage:
    """One image of a layout. Offers what `OpenedImage` offers."""

    def __init__(self, image: ImageReference, layout: Path, digest: str) -> None:
        self.reference = image
        self._layout = layout
        self._digest = digest

    def manifest(self) -> tuple[str, ImageManifest]:
        """Digest of the manifest, and the manifest.

        Raises:
            UserError: it is missing, damaged or malformed.
        """
        return self._digest, parse_manifest(self._small(self._digest))

    def config(self) -> ImageConfig:
        """The image's configuration.

        Raises:
            UserError: it is missing, damaged or malformed.
        """
        return parse_config(self._small(self.manifest()[1].config.digest))

    @contextmanager
    def blob(self, layer: Descriptor, diff_id: str) -> Iterator[BinaryIO]:  # noqa: ARG002 - see OpenedImage
        """A layer's bytes. Whoever reads them checks the digest.

        Raises:
            UserError: it is missing.
        """
        try:
            file = self._path(layer.digest).open("rb", buffering=0)
        except OSError as exc:
            raise self._missing(layer.digest) from exc
        with file:
            yield file

    def abort(self) -> None:
        """Nothing to end here: the reader of a file does not wait."""

    def _small(self, digest: str) -> bytes:
        try:
            data = self._path(digest).read_bytes()
        except OSError as exc:
            raise self._missing(digest) from exc
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise UserError(f"The blob {digest} of '{self.reference.display}' is damaged.")
        return data

    def _path(self, digest: str) -> Path:
        algorithm, _colon, value = digest.partition(":")
        return self._layout / "blobs" / algorithm / value

    def _missing(self, digest: str) -> UserError:
        return UserError(f"'{self.reference.display}' lacks the blob {digest}.", "Copy it again.")


@contextmanager
def open_source(image: ImageReference) -> Iterator[OpenedImage | LayoutImage]:
    """Open an image wherever it is: a plain OCI layout directly, everything else through skopeo.

    Raises:
        MissingProgramError: skopeo is needed and not installed.
        UserError: the image cannot be had; names it and what its source answered.
    """
    found = _find(image)
    if found is not None:
        yield found
        return
    with open_image(image) as opened:
        yield opened


def _find(image: ImageReference) -> LayoutImage | None:
    if image.transport != "oci" or image.policy.verification is not Verification.INSECURE:
        return None
    folder, colon, name = image.name.partition(":")
    if not colon or not asks_nothing_of_layouts():
        return None
    try:
        manifests = json.loads(Path(folder, "index.json").read_bytes())["manifests"]
        digests = [
            str(entry["digest"])
            for entry in manifests
            if (entry.get("annotations") or {}).get(_NAME) == name
            and entry["mediaType"] == _MANIFEST_TYPE
            and str(entry["digest"]).startswith("sha256:")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # skopeo says what is wrong with it
    return LayoutImage(image, Path(folder), digests[0]) if len(digests) == 1 else None
