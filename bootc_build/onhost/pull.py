"""Bring an image into the repository: find out what it is, fetch what is missing, merge.

Crash rules: each layer is committed and gets its ref when it is complete, in one transaction; the merge commit
and the image's ref come last, in another. Ended at any moment, the repository holds whole layers only, and the
next pull goes on with the first that is missing.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.fetching import (
    LayerFetcher,
    MissingLayer,
    Source,
    Tally,
    Write,
    pinned,
)
from bootc_build.onhost.layer_plan import PlannedLayer, missing_layers, plan_layers
from bootc_build.onhost.oci import retry
from bootc_build.onhost.oci.layout import open_source
from bootc_build.onhost.oci.manifest import (
    LABEL_OSTREE_COMMIT,
    ImageConfig,
    ImageManifest,
)
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.encapsulated import finish_commit, import_commit, import_objects
from bootc_build.onhost.ostree.images import known_layers
from bootc_build.onhost.ostree.importer import Layer, import_layer
from bootc_build.onhost.ostree.merge_commit import write_merge_commit
from bootc_build.onhost.ostree.metadata import ImageMetadata, load_image_metadata
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.selinux import Labels, policy_labels
from bootc_build.onhost.progress import Part, Progress, Steps
from bootc_build.onhost.space import check_space, measured_growth

__all__ = [
    "ImageMetadata",
    "PulledImage",
    "RemoteImage",
    "check_bootable",
    "check_room",
    "load_image_metadata",
    "probe",
    "pull",
    "restore",
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


def probe(image: ImageReference) -> RemoteImage:
    """Ask what the image is now: manifest, configuration and digest; no layer is fetched.

    Raises:
        UserError: it cannot be had; names the image and what its registry answered.
    """

    def ask() -> RemoteImage:
        with open_source(image) as opened:
            return _describe(opened)

    return retry.retrying(ask, retry.BACKOFF)


def pull(
    repo: Repo,
    image: ImageReference,
    *,
    progress: Progress,
    install: bool = False,
    target: ImageReference | None = None,
    spare: int = 0,
) -> PulledImage:
    """Bring an image into the repository; an interrupted one goes on where it stopped.

    Args:
        repo: where to.
        image: where from.
        progress: hears of every layer.
        install: the repository is a scratch tree that is copied elsewhere: do not wait for the disk.
        target: the name under which the image is recorded, when another than ``image``.
        spare: bytes that have to be free beside what is fetched.

    Raises:
        UserError: not found, not allowed, wrong architecture, not bootable, no space, damaged.
    """
    if install:
        repo.disable_fsync()
    recorded = target or image

    with _asked(image, progress) as (opened, remote):
        present = _already_present(repo, recorded, remote)
        if present is not None:
            return present
        check_bootable(image, remote.config)
        base, layers = _bring(repo, image, opened, remote, progress, spare=spare)
    progress.step(f"Merging {len(remote.manifest.layers)} layers")
    progress.task(_importing(remote, completed=False))
    metadata = ImageMetadata(remote.manifest_digest, remote.manifest, remote.config)
    commit = write_merge_commit(
        repo, metadata, layers, recorded, base=base, fallback_time=int(time.time())
    )
    progress.task(_importing(remote, completed=True))
    return PulledImage(commit, remote.manifest_digest, remote.manifest, remote.config, False)


def check_room(repo: Repo, image: ImageReference, remote: RemoteImage, *, spare: int) -> None:
    """Refuse an image whose missing layers would not fit; see `pull`.

    Raises:
        NoSpaceError: it needs more than is free.
    """
    known = known_layers(repo)
    planned = plan_layers(repo, remote.manifest, remote.config, known)
    missing = [item.descriptor for item in missing_layers(planned)]
    check_space(repo, image, missing, measured_growth(known.sizes), spare)


def restore(
    repo: Repo,
    image: ImageReference,
    known: ImageMetadata,
    *,
    timestamp: int,
    before: Callable[[], None],
    progress: Progress,
) -> str:
    """Fetch the layers of an image that the repository lacks, and merge it again; no image's ref is moved.

    Args:
        repo: where the image was damaged.
        image: where it came from; exactly the known manifest is asked for.
        known: what the repository knows of it.
        timestamp: of its commit, in seconds since 1970.
        before: called when the source has answered, before anything is fetched.
        progress: hears of every layer.

    Returns:
        The commit, whose objects are all there again.

    Raises:
        UserError: it cannot be had any more, or the reference means another image now.
    """
    with ExitStack() as stack:
        exactly = pinned(image, known.manifest_digest)
        try:
            opened, remote = stack.enter_context(_asked(exactly, progress))
        except UserError:
            # Installed from elsewhere, it may have another manifest than in its registry, for the same configuration.
            if exactly == image:
                raise
            opened, remote = stack.enter_context(_asked(image, progress))
        if known.manifest.config.digest != remote.manifest.config.digest:
            raise UserError(
                f"'{image.display}' is another image now ({remote.manifest_digest}) than {known.manifest_digest}.",
                "Queue that one with: bootc upgrade",
            )
        before()
        base, layers = _bring(repo, image, opened, remote, progress, labelled=False)
    return write_merge_commit(repo, known, layers, None, base=base, fallback_time=timestamp)


@contextmanager
def _asked(image: ImageReference, progress: Progress) -> Iterator[tuple[Source, RemoteImage]]:
    """An image's source, and what it says that the image is."""
    with ExitStack() as resources:

        def open_and_ask() -> tuple[Source, RemoteImage]:
            with ExitStack() as trying:
                source = trying.enter_context(open_source(image))
                answer = _describe(source)
                resources.push(trying.pop_all())
                return source, answer

        yield retry.retrying(open_and_ask, retry.BACKOFF, on_wait=progress.step)


def _importing(remote: RemoteImage, *, completed: bool) -> Steps:
    name, text = "importing", "Importing Image"
    part = Part(name, text, completed)
    return Steps(name, text, remote.manifest_digest, int(completed), 1, (part,))


def _bring(
    repo: Repo,
    image: ImageReference,
    opened: Source,
    remote: RemoteImage,
    progress: Progress,
    *,
    spare: int = 0,
    labelled: bool = True,
) -> tuple[str | None, list[tuple[Layer, str]]]:
    """Fetch what is missing; the base commit (of an image that has one) and the ordinary layers' commits.

    ``labelled``: the SELinux policy that is here already is most probably the image's, and can be read.
    """
    known = known_layers(repo)
    planned = plan_layers(repo, remote.manifest, remote.config, known)
    missing = missing_layers(planned)
    growth = measured_growth(known.sizes)
    check_space(repo, image, [item.descriptor for item in missing], growth, spare)
    tally = _tally(image, remote, planned, missing)
    fetcher = LayerFetcher(
        repo, image, opened, remote.manifest_digest, progress=progress, tally=tally
    )
    count = remote.config.base_layers
    base = None
    if count:
        commits = _ensure(repo, fetcher, planned[:count], _write_base, progress)
        base = commits[0][1]
        finish_commit(repo, base, remote.config.labels.get(LABEL_OSTREE_COMMIT, ""))
    with _expected_labels(repo, image, base) if labelled else nullcontext() as labels:
        write = partial(import_layer, labels=labels)
        layers = _ensure(repo, fetcher, planned[count:], lambda _number: write, progress)
    return base, layers


def _write_base(number: int) -> Write:
    return import_commit if number == 1 else import_objects


@contextmanager
def _expected_labels(
    repo: Repo, image: ImageReference, base: str | None
) -> Iterator[Labels | None]:
    """The SELinux policy that the image most probably has: its base's, or the one it had before."""
    commit = base or repo.resolve_ref(image_ref(image))
    if commit is None:
        yield None
        return
    store = ObjectStore(repo)
    with policy_labels(store, store.root_of(commit)[0]) as labels:
        yield labels


def _describe(opened: Source) -> RemoteImage:
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


def _tally(
    image: ImageReference,
    remote: RemoteImage,
    planned: Sequence[PlannedLayer],
    missing: Sequence[PlannedLayer],
) -> Tally:
    here = {item.descriptor.digest: item.descriptor.size for item in planned if item.commit}
    return Tally(
        image=image.display,
        manifest_digest=remote.manifest_digest,
        layers_cached=len(planned) - len(missing),
        bytes_cached=sum(here.values()),
        layers_total=len(missing),
        bytes_total=sum(item.descriptor.size for item in missing),
    )


def _ensure(
    repo: Repo,
    fetcher: LayerFetcher,
    planned: Sequence[PlannedLayer],
    write: Callable[[int], Write],
    progress: Progress,
) -> list[tuple[Layer, str]]:
    """The commits of layers, fetched if the repository has them not."""
    missing = [
        MissingLayer(item.layer, item.descriptor, write(item.layer.number))
        for item in missing_layers(planned)
    ]
    fetched = fetcher.fetch(missing)
    by_diff_id = {item.layer.diff_id: fetched[item.layer.digest] for item in missing}
    layers = []
    for item in planned:
        commit = item.commit
        if commit is None:
            commit = by_diff_id[item.layer.diff_id]
        else:
            progress.detail(f"{item.layer.name} is here already")
        ref = layer_ref(item.layer.digest)
        if repo.resolve_ref(ref) is None:
            repo.set_ref(ref, commit)
        layers.append((item.layer, commit))
    return layers
