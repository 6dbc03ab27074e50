"""Bring an image into the repository: find out what it is, fetch what is missing, merge.

Crash rules: each layer is committed and gets its ref when it is complete, in one transaction; the merge commit
and the image's ref come last, in another. Ended at any moment, the repository holds whole layers only, and the
next pull goes on with the first that is missing.
"""

import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.imageproxy import OpenedImage
from bootc_build.onhost.oci.layerstream import LayerStream
from bootc_build.onhost.oci.layout import LayoutImage, open_source
from bootc_build.onhost.oci.manifest import (
    LABEL_FINAL_DIFFID,
    Descriptor,
    ImageConfig,
    ImageManifest,
)
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.images import known_diff_ids, write_merge_commit
from bootc_build.onhost.ostree.importer import Layer, import_layer
from bootc_build.onhost.ostree.metadata import ImageMetadata, load_image_metadata
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Progress

__all__ = [
    "ImageMetadata",
    "PulledImage",
    "RemoteImage",
    "load_image_metadata",
    "probe",
    "pull",
]

# Machine names of the kernel in OCI's (Go's) words.
_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "i686": "386",
    "armv7l": "arm",
}
# A compressed layer grows when it is unpacked; ordinary systems do by a factor between 2 and 3.
_GROWTH: Final = 2
_RESERVE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class RemoteImage:
    """What a registry (or another source) says an image is; nothing of it is fetched yet."""

    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig


@dataclass(frozen=True)
class PulledImage:
    """An image that is wholly in the repository."""

    merge_commit: str
    manifest_digest: str
    manifest: ImageManifest
    config: ImageConfig
    already_present: bool


@dataclass(frozen=True)
class _WantedLayer:
    """A layer of the image with its descriptor, and its commit when the repository has it."""

    layer: Layer
    descriptor: Descriptor
    commit: str | None


def probe(image: ImageReference) -> RemoteImage:
    """Ask what the image is now: manifest, configuration and digest; no layer is fetched.

    Raises:
        UserError: it cannot be had; names the image and what its registry answered.
    """
    with open_source(image) as opened:
        return _describe(opened)


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
        install: the repository is a scratch tree that is copied elsewhere: do not wait for the disk.
        target: the name under which the image is recorded, when another than ``image``.

    Raises:
        UserError: not found, not allowed, wrong architecture, not bootable, no space, damaged.
    """
    if install:
        repo.disable_fsync()
    recorded = target or image
    with open_source(image) as opened:
        remote = _describe(opened)
        present = _already_present(repo, recorded, remote)
        if present is not None:
            return present
        check_bootable(image, remote.config)
        wanted = _plan(repo, remote)
        _check_space(repo, image, wanted)
        layers = [(item.layer, _ensure(repo, opened, item, progress)) for item in wanted]
    progress.step(f"Merging {len(layers)} layers")
    metadata = ImageMetadata(remote.manifest_digest, remote.manifest, remote.config)
    commit = write_merge_commit(repo, metadata, layers, recorded, fallback_time=int(time.time()))
    return PulledImage(commit, remote.manifest_digest, remote.manifest, remote.config, False)


def _describe(opened: OpenedImage | LayoutImage) -> RemoteImage:
    digest, manifest = opened.manifest()
    config = opened.config()
    if len(config.diff_ids) != len(manifest.layers):
        raise UserError(
            f"'{opened.reference.display}' has {len(manifest.layers)} layers, but its configuration "
            f"lists {len(config.diff_ids)}.",
            "Build and push the image again.",
        )
    return RemoteImage(digest, manifest, config)


def _already_present(
    repo: Repo, recorded: ImageReference, remote: RemoteImage
) -> PulledImage | None:
    """The stored image when it is this one: the same manifest, or another one of the same configuration.

    The configuration names the layers' contents, so an image that was only compressed again is no other image.
    The digest recorded with the commit is then the one of its first manifest, as upstream has it.
    """
    commit = repo.resolve_ref(image_ref(recorded))
    if commit is None:
        return None
    try:
        stored = load_image_metadata(repo, commit)
    except UserError:
        return None  # damaged: pull it again
    if stored is None:
        return None
    same = (
        stored.manifest_digest == remote.manifest_digest
        or stored.manifest.config.digest == remote.manifest.config.digest
    )
    if not same:
        return None
    return PulledImage(commit, stored.manifest_digest, stored.manifest, stored.config, True)


def check_bootable(image: ImageReference, config: ImageConfig) -> None:
    """Refuse an image that cannot be this machine's operating system.

    Raises:
        UserError: no label says that it is bootable, or it is for another architecture.
    """
    if not config.bootable:
        raise UserError(
            f"'{image.display}' is not labelled as a bootable image.",
            "Build it with bootc-build image, or add to its Containerfile: LABEL containers.bootc=1",
        )
    machine = platform.machine()
    expected = _ARCHITECTURES.get(machine, machine)
    if config.architecture != expected:
        raise UserError(
            f"'{image.display}' is for the architecture {config.architecture}; this machine is {expected}.",
            f"Build the image for {expected}.",
        )
    if LABEL_FINAL_DIFFID in config.labels:
        raise UserError(
            f"'{image.display}' is an ostree commit split into layers, which cannot be imported yet.",
            "Use an image whose layers are ordinary ones.",
        )


def _plan(repo: Repo, remote: RemoteImage) -> list[_WantedLayer]:
    """Which layers the image has, and which of them the repository has."""
    total = len(remote.manifest.layers)
    by_diff_id = known_diff_ids(repo)
    wanted = []
    for index, (descriptor, diff_id) in enumerate(
        zip(remote.manifest.layers, remote.config.diff_ids, strict=True)
    ):
        layer = Layer(
            digest=descriptor.digest,
            diff_id=diff_id,
            number=index + 1,
            total=total,
            made_by=remote.config.made_by(index),
        )
        commit = repo.resolve_ref(layer_ref(descriptor.digest)) or by_diff_id.get(diff_id)
        wanted.append(_WantedLayer(layer, descriptor, commit))
    return wanted


def _check_space(repo: Repo, image: ImageReference, wanted: Iterable[_WantedLayer]) -> None:
    missing = [item.descriptor for item in wanted if item.commit is None]
    sizes = [blob.size * (1 if blob.media_type.endswith("tar") else _GROWTH) for blob in missing]
    needed = sum(sizes) + _RESERVE_BYTES if missing else 0
    free = repo.free_bytes()
    if needed > free:
        raise UserError(
            f"'{image.display}' needs about {needed // 1_000_000} MB in {repo.path}, where "
            f"{free // 1_000_000} MB are free.",
            "Make room, for example by removing files from /var, then try again.",
        )


def _ensure(
    repo: Repo, opened: OpenedImage | LayoutImage, wanted: _WantedLayer, progress: Progress
) -> str:
    """The commit of a layer, fetched if the repository has it not."""
    layer = wanted.layer
    ref = layer_ref(layer.digest)
    # Asked again here: an image may have the same layer twice.
    known = repo.resolve_ref(ref)
    commit = known or wanted.commit
    if commit is not None:
        if known is None:
            repo.set_ref(ref, commit)
        progress.detail(f"{layer.name} is here already")
        return commit
    progress.step(f"Fetching layer {layer.number} of {layer.total}")
    size = wanted.descriptor.size
    with (
        opened.blob(wanted.descriptor, layer.diff_id) as blob,
        LayerStream(blob.read, layer.name, lambda done: progress.bytes_done(done, size)) as stream,
    ):
        return import_layer(repo, stream, layer)
