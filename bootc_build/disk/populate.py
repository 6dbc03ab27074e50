"""The image installs itself: its own ``bootc install`` lays out the tree that becomes the disk.

It runs inside the image (buildah's chroot isolation), so that the target's own libostree and boot loader
tools write the target's formats. It sees the image as an OCI layout and an empty folder, both bind mounts
for that one command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.disk.identity import Identity
from bootc_build.disk.layer_cache.layers import Layers, LayersRefusedError
from bootc_build.disk.trees import make_folder
from bootc_build.disk.worktree import remove_tree
from bootc_build.onhost import unsynced
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.process import CommandError
from bootc_build.onhost.progress import Progress
from bootc_build.tools import containers_storage, skopeo
from bootc_build.tools.buildah import Volume, WorkingContainer
from bootc_build.tools.podman import LocalImage
from bootc_build.tools.sizes import in_words

IMAGE_TAG = "image"
_SOURCE = "/run/bootc-build/src"
_KEYS = "authorized_keys"
_TARGET = "/run/bootc-build/target"
# argparse's exit status for arguments that it does not know.
_USAGE = 2
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Architecture -> its first serial port, and the firmware that there are boot loaders for.
_SERIAL = {"amd64": "ttyS0,115200n8", "arm64": "ttyAMA0"}
_FIRMWARE = {"amd64": "bios,uefi", "arm64": "uefi"}


@dataclass(frozen=True)
class Installation:
    """What the installed system is told.

    Attributes:
        target: the image that it follows from then on.
        kargs: kernel arguments beyond the image's own.
        root_keys: text of root's authorized_keys, or None.
        identity: has the UUIDs of the file systems to come.
        timestamp: seconds since the epoch, for times that the installation records.
        bound_images: ``skip`` leaves container images that the system binds to its first upgrade.
        architecture: of the system, in the OCI's words.
        filesystem: of the root.
        root_spec: how the kernel finds the root; by its UUID without one.
        stateroot: the group of deployments that the first one is in.
    """

    target: ImageReference
    kargs: Sequence[str]
    root_keys: str | None
    identity: Identity
    timestamp: int
    bound_images: str = "stored"
    architecture: str = "amd64"
    filesystem: str = "ext4"
    root_spec: str = ""
    stateroot: str = "default"

    def kernel_arguments(self) -> list[str]:
        """The user's arguments, after consoles on screen and serial port unless the user chose some."""
        if any(karg.startswith("console=") for karg in self.kargs):
            return list(self.kargs)
        return ["console=tty0", f"console={_SERIAL[self.architecture]}", *self.kargs]


def install_command(installation: Installation, *, imported_layers: bool = False) -> list[str]:
    """The command that runs inside the image.

    Args:
        installation: what the system is told.
        imported_layers: the target has the image's layers already.
    """
    identity = installation.identity
    command = [
        "/usr/bin/bootc",
        "install",
        "to-filesystem",
        *("--source-imgref", f"oci:{_SOURCE}:{IMAGE_TAG}"),
        *("--target-imgref", installation.target.skopeo),
        *("--root-mount-spec", installation.root_spec or f"UUID={identity.root_uuid}"),
        *("--boot-mount-spec", f"UUID={identity.boot_uuid}"),
        *("--stateroot", installation.stateroot),
        "--generic-image",
        "--skip-finalize",
        *("--bootloader-target", _FIRMWARE[installation.architecture]),
    ]
    if imported_layers:
        command.append("--imported-layers")
    if installation.root_keys is not None:
        command += ["--root-ssh-authorized-keys", f"{_SOURCE}/{_KEYS}"]
    if installation.bound_images != "stored":
        # Not said otherwise: an image's older installer need not know it.
        command += ["--bound-images", installation.bound_images]
    for karg in installation.kernel_arguments():
        command += ["--karg", karg]
    return [*command, _TARGET]


def install_image(
    container: WorkingContainer,
    image: LocalImage,
    work: Path,
    installation: Installation,
    progress: Progress,
    *,
    layers: Layers | None = None,
) -> Path:
    """Install the image to a new folder.

    The installer reads the layers while they are taken out of storage. Should storage not be in the form
    that is known, skopeo writes them to files first.

    Args:
        container: a working container of the image.
        image: the image.
        work: folder to work in.
        installation: what the system is told.
        progress: gets the bytes that are read, and the installer's lines.
        layers: of the image, where they are imported already.

    Returns:
        The installed tree.

    Raises:
        CommandError: the installer failed; has its last lines.
        LayersRefusedError: it does not know what to do with the layers.
    """
    layout, target = work / "image", work / "root"
    make_folder(target)
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        progress.bytes_done(read, image.size_bytes)

    progress.step(f"Running the image's own installer ({in_words(image.size_bytes)})")
    if layers is not None:
        # What mkfs.btrfs and mkfs.xfs make of a link to something outside is their affair.
        layers.hand_over(target, link=installation.filesystem == "ext4")
    given = layers is not None
    try:
        found = containers_storage.find_image(image.id) if layers is None else layers.image
        with containers_storage.served_layout(found, layout, IMAGE_TAG, count):
            populate(container, layout, target, installation, progress, imported_layers=given)
    except CommandError as error:
        if given and error.status == _USAGE:
            # Compiled Python in it may be of another agent than its source, and that is what runs.
            raise LayersRefusedError("The image's installer takes no imported layers") from error
        raise
    except containers_storage.UnknownStorageError as reason:
        progress.step("Exporting the image with skopeo")
        progress.detail(f"Storage could not be read directly: {reason}")
        for folder in (layout, target):
            remove_tree(folder)
        make_folder(target)
        skopeo.export_uncompressed(image.id, layout, IMAGE_TAG)
        progress.step("Running the image's own installer")
        populate(container, layout, target, installation, progress)
    remove_tree(layout)
    return target


def populate(
    container: WorkingContainer,
    layout: Path,
    target: Path,
    installation: Installation,
    progress: Progress,
    *,
    imported_layers: bool = False,
) -> None:
    """Install the image to the folder ``target``, which is empty but for layers.

    Args:
        container: a working container of the image.
        layout: OCI layout that has the image under ``IMAGE_TAG``.
        target: the folder.
        installation: what the system is told.
        progress: gets the installer's lines.
        imported_layers: the image's layers are in it, as `Layers.hand_over` puts them.

    Raises:
        CommandError: the installer failed; has its last lines.
    """
    if installation.root_keys is not None:
        (layout / _KEYS).write_text(installation.root_keys)
    container.run(
        install_command(installation, imported_layers=imported_layers),
        volumes=(Volume(layout, _SOURCE, read_only=True), Volume(target, _TARGET)),
        # An image made from scratch need not set a PATH.
        env={
            "PATH": _PATH,
            "SOURCE_DATE_EPOCH": str(installation.timestamp),
            unsynced.VARIABLE: "1",
        },
        on_line=progress.detail,
        remedy="This is what the image's own installer said; -v shows all of it.",
    )
