"""From an image in local storage to disk files: the order of the steps, and who cleans up after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.disk import formats, preflight, trees
from bootc_build.disk.assemble import write_raw_disk
from bootc_build.disk.bootable import check_image, check_root
from bootc_build.disk.formats import DiskType
from bootc_build.disk.plan import Contents, Identity, plan_disk
from bootc_build.disk.populate import Installation, install_image
from bootc_build.disk.worktree import remove_tree, work_tree
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.oci.reference import TRANSPORTS, ImageReference
from bootc_build.onhost.progress import Progress
from bootc_build.tools.buildah import working_container
from bootc_build.tools.podman import LocalImage, image_store

# Counted into every identifier, so that disks of different layouts never share one.
_LAYOUT_VERSION = 1


@dataclass(frozen=True)
class DiskRequest:
    """What the user asks for.

    Attributes:
        image: name or id in local storage.
        types: formats to write.
        output: folder for them, made if need be.
        name: file name without suffix.
        size: bytes of the whole disk, or None for the default.
        target: what the host will follow, or None for the image's own name.
        kargs: more kernel arguments.
        root_keys: text of root's authorized_keys, or None.
        bound_images: ``skip`` leaves container images that the system binds to its first upgrade.
    """

    image: str
    types: Sequence[DiskType]
    output: Path
    name: str = "disk"
    size: int | None = None
    target: ImageReference | None = None
    kargs: Sequence[str] = ()
    root_keys: str | None = None
    bound_images: str = "stored"


@dataclass(frozen=True)
class WrittenDisk:
    """One finished file.

    Attributes:
        type: its format.
        path: where it is.
        disk_bytes: size of the disk that a machine sees.
        stored_bytes: what the file takes in storage.
    """

    type: DiskType
    path: Path
    disk_bytes: int
    stored_bytes: int


def build_disk(request: DiskRequest, progress: Progress) -> list[WrittenDisk]:
    """Make the disk files that were asked for; all of them or none.

    Raises:
        UserError: image not there or not bootable, programs missing, no space, a program failed.
        UsageError: the size is too small, the target cannot be told.
    """
    preflight.check_programs(request.types)
    with image_store() as store:
        image = store.get(request.image)
    check_image(image, request.image)
    target = request.target or default_target(request.image, image)
    progress.step(f"The host will follow {target.display}")
    timestamp = int(image.created.timestamp())
    identity = Identity.derive(image.digest, _configuration(request, target))
    # Known to be too small already? Compare before the work, with what the layers say.
    plan_disk(identity, Contents(image.size_bytes), timestamp=timestamp, size=request.size)
    with work_tree(request.output) as work, preflight.full_disk_explained(request.output):
        preflight.check_space(work, image.size_bytes)
        installed = _install(
            request,
            image,
            Installation(
                target,
                request.kargs,
                request.root_keys,
                identity,
                timestamp,
                request.bound_images,
            ),
            work,
            progress,
        )
        contents = trees.settle(installed, timestamp)
        plan = plan_disk(identity, contents, timestamp=timestamp, size=request.size)
        raw = work / "disk.raw"
        write_raw_disk(plan, installed, raw, progress)
        # Its space is wanted for the formats that follow.
        remove_tree(installed.root)
        return _publish(request, raw, work, progress)


def default_target(name: str, image: LocalImage) -> ImageReference:
    """What a host made from this image follows when nothing else is said: the image's own name.

    Raises:
        UsageError: the image was given by id and has no name.
    """
    if image.names and image.id.startswith(name.removeprefix("sha256:")):
        name = image.names[0]
    elif not image.names:
        raise UsageError(
            f"Image '{name}' has no name that the host could follow.",
            "Say which one it shall follow, for example: --target-imgref registry.example/os:latest",
        )
    else:
        # As storage has it: "os" is "localhost/os:latest".
        name = next(
            (full for full in image.names if full == name or full.endswith(f"/{name}")),
            image.names[0],
        )
    return ImageReference("registry", name)


def parse_target(text: str) -> ImageReference:
    """Read ``--target-imgref``: "registry.example/os:tag", or with a transport ("oci:/path:tag").

    Raises:
        UsageError: malformed.
    """
    transport, _colon, rest = text.partition(":")
    # A registry on a host of that name ("registry:5000/os") is no transport.
    is_port = rest.partition("/")[0].isdecimal()
    if transport in {*TRANSPORTS, "docker"} and "/" in rest and not is_port:
        return ImageReference.parse_transport_qualified(text)
    return ImageReference.parse_cli(text)


def _configuration(request: DiskRequest, target: ImageReference) -> dict[str, object]:
    return {
        "layout": _LAYOUT_VERSION,
        "size": request.size,
        "target": target.to_origin(),
        "kargs": list(request.kargs),
        "root_keys": request.root_keys,
    }


def _install(
    request: DiskRequest,
    image: LocalImage,
    installation: Installation,
    work: Path,
    progress: Progress,
) -> trees.Trees:
    with working_container(image.id) as container:
        check_root(request.image, container.mount())
        target = install_image(container, image, work, installation, progress)
    return trees.split(target)


def _publish(request: DiskRequest, raw: Path, work: Path, progress: Progress) -> list[WrittenDisk]:
    disk_bytes = raw.stat().st_size
    finished = {}
    if DiskType.QCOW2 in request.types:
        finished[DiskType.QCOW2] = work / "disk.qcow2"
        formats.write_qcow2(raw, finished[DiskType.QCOW2], progress)
    if DiskType.RAW in request.types:
        finished[DiskType.RAW] = raw
    written = []
    for kind, file in finished.items():
        path = request.output / f"{request.name}.{kind}"
        stored = file.stat().st_blocks * 512
        formats.publish(file, path)
        written.append(WrittenDisk(kind, path, disk_bytes, stored))
    return written
