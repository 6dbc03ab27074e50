"""From an image in local storage to disk files: the order of the steps, and who cleans up after them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.in_image import image_configuration
from bootc_build.config.source import ConfigurationSource
from bootc_build.disk import btrfs_size, deliver, ec2, image_install, preflight, trees
from bootc_build.disk.assemble import write_raw_disk
from bootc_build.disk.bootable import (
    check_architecture,
    check_boot_loader,
    check_image,
    check_root,
)
from bootc_build.disk.checksums import Checksums
from bootc_build.disk.deliver import Provenance, WrittenDisk
from bootc_build.disk.ec2 import CloudInit
from bootc_build.disk.ext4.fill import Witness
from bootc_build.disk.formats import (
    Compression,
    DiskType,
    FormatOptions,
    size_unit,
    write_formats,
)
from bootc_build.disk.identity import Identity
from bootc_build.disk.layer_cache.layers import (
    Layers,
    LayersRefusedError,
    imported_layers,
    layer_shelf,
)
from bootc_build.disk.layout import (
    Overrides,
    image_layout,
    layout_problems,
    requested_layout,
    root_flags,
)
from bootc_build.disk.plan import Contents, plan_disk
from bootc_build.disk.populate import Installation, install_image
from bootc_build.disk.settings.accounts import with_keys_of_root
from bootc_build.disk.settings.apply import apply_settings
from bootc_build.disk.settings.plan import Settings, plan_settings
from bootc_build.disk.trees import Settled
from bootc_build.disk.wanted import Layout
from bootc_build.disk.workshop import Workshops, find_workshops
from bootc_build.disk.worktree import beside, remove_tree, work_tree
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.install.configuration import load_configuration
from bootc_build.onhost.oci.reference import TRANSPORTS, ImageReference
from bootc_build.onhost.progress import Progress
from bootc_build.tools.buildah import WorkingContainer, working_container
from bootc_build.tools.podman import LocalImage, image_store

# Counted into every identifier, so that disks of different layouts never share one.
_LAYOUT_VERSION = 5
# Types whose file is the raw disk.
_AS_IT_IS = {DiskType.RAW, DiskType.AMI}


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
        compression: of qcow2.
        cloud_init: whether it shall run; EC2's disk must have it unless it is not wanted.
        manifest: write NAME.manifest.json beside the files, with their checksums.
        configuration: layout, accounts and settings; None for what the image brings along.
        source: where that was said.
        overrides: what comes before the configuration.
        layer_cache: take the image's layers from the cache, and put those there that it has not.
        builds: how many builds, this one among them, there has to be space for.
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
    compression: Compression = Compression.ZSTD
    cloud_init: CloudInit = CloudInit.IMAGE
    manifest: bool = True
    configuration: DiskConfiguration | None = None
    source: ConfigurationSource = field(default_factory=ConfigurationSource)
    overrides: Overrides = field(default_factory=Overrides)
    layer_cache: bool = True
    builds: int = 1

    @property
    def asked(self) -> DiskConfiguration:
        """The configuration as far as the user gives it."""
        return self.overrides.over(self.configuration or DiskConfiguration())

    @property
    def disk_size(self) -> int | None:
        """Bytes of the whole disk, if they were said."""
        return self.asked.size if self.size is None else self.size

    @property
    def manifest_of_raw(self) -> bool:
        """Whether the raw disk's checksum is wanted."""
        return self.manifest and bool(_AS_IT_IS.intersection(self.types))

    def kernel_arguments(self, configured: DiskConfiguration) -> tuple[str, ...]:
        """The user's, and what the types want besides."""
        return ec2.kernel_arguments(
            (*configured.kernel_arguments, *self.kargs),
            ec2=DiskType.AMI in self.types,
            cloud_init=self.cloud_init,
        )


def build_disk(request: DiskRequest, progress: Progress) -> list[WrittenDisk]:
    """Make the disk files that were asked for; all of them or none.

    Raises:
        UserError: image not there or not bootable, programs missing, no space, a program failed.
        UsageError: the size is too small, the target cannot be told.
    """
    try:
        return _build_disk(request, progress)
    except LayersRefusedError as reason:
        progress.step(f"{reason}; beginning again without")
        return _build_disk(replace(request, layer_cache=False), progress)


def _build_disk(request: DiskRequest, progress: Progress) -> list[WrittenDisk]:
    deliver.check_names(request.output, request.name, request.types)
    preflight.check_programs(request.types)
    with image_store() as store:
        image = store.get(request.image)
    check_image(image, request.image)
    check_architecture(image, request.image, request.asked.architecture)
    target = request.target or default_target(request.image, image)
    progress.step(f"The host will follow {target.display}")
    timestamp = int(image.created.timestamp())
    # By the configuration's digest, which covers every layer: the manifest's changes when somebody
    # compresses the layers otherwise, or pulls the image into a storage of another kind.
    identity = Identity.derive(f"sha256:{image.id}", _configuration(request, target))
    # Known to be too small already? Compare before the work, with what the layers say.
    plan = partial(
        plan_disk,
        identity,
        timestamp=timestamp,
        size=request.disk_size,
        unit=size_unit(request.types),
    )
    asked = replace(requested_layout(request.asked), architecture=image.architecture)
    expected = plan(Contents(image.size_bytes), layout=asked)
    with work_tree(request.output) as work, preflight.full_disk_explained(request.output):
        preflight.check_file_size(work, expected.size)
        size, builds = image.size_bytes, request.builds
        progress.step(preflight.check_space(work, size, request.types, builds=builds))
        provenance = Provenance(request.image, image.id, image.digest, target.to_origin())
        with ExitStack() as uses:
            installed = _install(
                request, image, target, identity, work=work, progress=progress, uses=uses
            )
            settled = trees.settle(installed.trees, timestamp)
            contents = btrfs_size.with_least(settled, installed.layout)
            raw = work / "disk.raw"
            planned = plan(contents, layout=installed.layout)
            checksums = uses.enter_context(Checksums())
            advance = partial(checksums.advance, raw)
            write_raw_disk(
                planned,
                settled,
                raw,
                progress,
                installed.workshops,
                on_written=advance if request.manifest_of_raw else lambda _end: None,
                witness=installed.check(settled),
            )
            options = FormatOptions(
                request.types, request.name, request.compression, identity, timestamp
            )
            # Its space is wanted for the formats that follow.
            with beside(partial(remove_tree, installed.trees.root)):
                finished = _finish(request, provenance, raw, options, checksums, progress=progress)
        deliver.publish(finished.names, finished.manifest, finished.spare)
        for other in deliver.of_earlier_builds(request.output, request.name, request.types):
            progress.step(f"'{other}' is not of this build, and not in its manifest")
        return finished.disks


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
        "kargs": list(request.kernel_arguments(request.asked)),
        "root_keys": request.root_keys,
        "configuration": request.asked.model_dump(mode="json", exclude_defaults=True),
    }


@dataclass(frozen=True)
class _Installed:
    """What installer and configuration left: trees, the layout they are for, where file systems are made.

    The image's programs have ended by then: what they left of the cache's layers is what counts.
    """

    trees: trees.Trees
    layout: Layout
    workshops: Workshops
    layers: Layers | None

    def check(self, settled: Settled) -> Witness | None:
        """Have the layers checked: by what sees the root's contents on their way, or beside everything else."""
        if self.layers is None:
            return None
        if self.layout.filesystem == "ext4":
            return self.layers.check_on_the_way(settled.root)
        self.layers.begin_check()
        return None


def _install(
    request: DiskRequest,
    image: LocalImage,
    target: ImageReference,
    identity: Identity,
    *,
    work: Path,
    progress: Progress,
    uses: ExitStack,
) -> _Installed:
    with ExitStack() as closing:
        container = closing.enter_context(working_container(image.id))
        root = container.mount()
        check_root(request.image, root, image.architecture)
        if DiskType.AMI in request.types:
            ec2.check_root(
                request.image, root, request.cloud_init, partial(_initramfs_files, container)
            )
        wanted, source = request.asked, request.source
        if request.configuration is None and (found := image_configuration(root)) is not None:
            progress.step("Taking the configuration that the image has")
            wanted, source = request.overrides.over(found[0]), found[1]
            check_architecture(image, request.image, wanted.architecture)
        install = load_configuration(root, image_install.MACHINES[image.architecture])
        wanted, root_keys = with_keys_of_root(wanted, request.root_keys)
        layout = image_layout(wanted, root, install)
        layout = replace(layout, architecture=image.architecture)
        settings = plan_settings(container, root, Settings(wanted, identity, layout))
        problems = (*layout_problems(layout, wanted, root), *settings.problems)
        image_install.raise_found(
            (*image_install.install_problems(install, layout), *source.found(problems))
        )
        workshops = find_workshops(container, image.id, layout)
        installation = Installation(
            target,
            (*root_flags(layout), *request.kernel_arguments(wanted)),
            root_keys,
            identity,
            int(image.created.timestamp()),
            request.bound_images,
            image.architecture,
            layout.filesystem,
            image_install.root_mount_spec(install, identity, layout),
            image_install.stateroot(install),
        )
        layers = None
        if request.layer_cache:
            spare = preflight.space_needed(image.size_bytes, request.types)
            use = imported_layers(image.id, root, layer_shelf(), spare, progress)
            layers = uses.enter_context(use)
        tree = install_image(container, image, work, installation, progress, layers=layers)
        apply_settings(container, tree, settings, progress)
        apart = trees.split(tree, layout.mountpoints, installation.stateroot)
        check_boot_loader(request.image, apart, image.architecture)
        uses.enter_context(beside(closing.pop_all().close))
    return _Installed(apart, layout, workshops, layers)


def _initramfs_files(container: WorkingContainer) -> str | None:
    """What is in the image's initramfs, as dracut's own program lists it; None without that program."""
    root = container.mount()
    if not (root / "usr/bin/lsinitrd").exists():
        return None
    initramfs = next(root.glob("usr/lib/modules/*/initramfs.img")).relative_to(root)
    return container.run(["lsinitrd", f"/{initramfs}"])


@dataclass(frozen=True)
class _Finished:
    """Finished files that have yet to get their names; see `deliver.publish`."""

    disks: list[WrittenDisk]
    names: dict[Path, Path]
    manifest: Path | None
    spare: Path


def _finish(
    request: DiskRequest,
    provenance: Provenance,
    raw: Path,
    options: FormatOptions,
    checksums: Checksums,
    *,
    progress: Progress,
) -> _Finished:
    disk_bytes = raw.stat().st_size
    work = raw.parent
    finished, spare = work / "finished", work / "replaced"
    for folder in (finished, spare):
        folder.mkdir()
    begun = {}
    if request.manifest_of_raw:
        # One for both, and while the others are written.
        begun = dict.fromkeys(_AS_IT_IS, checksums.begin(raw))
    files = write_formats(raw, finished, options, progress)
    synced = [checksums.begin_sync(file) for file in files.values()]
    digests = [""] * len(files)
    if request.manifest:
        progress.step("Computing checksums")
        for kind, file in files.items():
            begun[kind] = begun.get(kind) or checksums.begin(file)
        digests = [begun[kind].result() for kind in files]
    for done in synced:
        done.result()
    written = []
    for (kind, file), digest in zip(files.items(), digests, strict=True):
        status = file.stat()
        path = request.output / file.name
        stored = status.st_blocks * 512
        written.append(WrittenDisk(kind, path, disk_bytes, stored, status.st_size, digest))
    names = {file: request.output / file.name for file in files.values()}
    manifest = None
    if request.manifest:
        manifest = finished / f"{request.name}.{deliver.MANIFEST_SUFFIX}"
        manifest.write_text(deliver.manifest(provenance, written))
        names[manifest] = request.output / manifest.name
    return _Finished(written, names, manifest, spare)
