"""Lints on what boots: kernel, initramfs, kernel arguments, /boot, the root's preparation."""

import configparser
from collections.abc import Iterator

from bootc_build.onhost.bound.spec import DIRECTORY as BOUND_DIRECTORY
from bootc_build.onhost.bound.spec import bound_images
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import KARGS_DIRECTORY, file_text, image_kargs
from bootc_build.onhost.host.kernel_file import HEAD_BYTES, whole_length
from bootc_build.onhost.image_tree import RootTree
from bootc_build.onhost.lint.model import Problem
from bootc_build.onhost.lint.root import Root

_MODULES = "/usr/lib/modules"
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64")
_PREPARE_ROOT = ("/etc/ostree/prepare-root.conf", "/usr/lib/ostree/prepare-root.conf")
_COMPOSEFS_ON = {"true", "yes", "1", "on", "signed", "verity", "maybe"}
_REFRESH = "/usr/libexec/bootc/image-refresh"


def _kernels(root: Root) -> list[str]:
    """Versions of the kernels that an import would find."""
    return [
        name
        for name in root.names(_MODULES)
        if root.is_dir(f"{_MODULES}/{name}") and root.is_file(f"{_MODULES}/{name}/vmlinuz")
    ]


def kernel(root: Root) -> Iterator[Problem]:
    """Find no kernel, more than one, or one whose end is missing."""
    found = _kernels(root)
    if not found:
        yield Problem(
            f"There is no kernel in {_MODULES}/*/vmlinuz.",
            "Install one, for example: RUN apt-get install -y linux-image-cloud-amd64, "
            "or build FROM a bootable base image.",
            [_MODULES],
        )
    if len(found) > 1:
        yield Problem(
            f"There are {len(found)} kernels and bootc cannot choose: {', '.join(found)}.",
            f"Remove all but one, with the package that has it, or: RUN rm -rf {_MODULES}/{found[0]}",
            [f"{_MODULES}/{version}/vmlinuz" for version in found],
        )
    for version in found:
        path = f"{_MODULES}/{version}/vmlinuz"
        content = root.read(path) or b""
        if len(content) < whole_length(content[:HEAD_BYTES]):
            yield Problem(
                f"The kernel {version} is not whole: it has {len(content)} bytes, and its header tells of "
                f"{whole_length(content[:HEAD_BYTES])}.",
                "Install its package again, for example: RUN apt-get install -y --reinstall "
                f"linux-image-{version}",
                [path],
            )


def initramfs(root: Root) -> Iterator[Problem]:
    """Find a kernel without its initramfs beside it."""
    for version in _kernels(root):
        path = f"{_MODULES}/{version}/initramfs.img"
        status = root.stat(path)
        if status is not None and status.st_size > 0:
            continue
        yield Problem(
            f"The kernel {version} has no initramfs; it would not find its root file system.",
            f"Make it: RUN {_REFRESH}"
            if root.is_file(_REFRESH)
            else f"Make it: RUN dracut --no-hostonly --add ostree --kver {version} {path}",
            [path],
        )


def bootc_kargs(root: Root) -> Iterator[Problem]:
    """Find kernel argument files that would not parse."""
    folder = f"/{KARGS_DIRECTORY}"
    if root.lstat(folder) is not None and not root.is_dir(folder):
        yield Problem(f"{folder} is not a directory.", f"Remove it: RUN rm -f {folder}", [folder])
        return
    tree = RootTree(root.path)
    for name in root.names(folder):
        path = f"{folder}/{name}"
        if not name.endswith(".toml"):
            continue
        try:
            image_kargs({name: file_text(tree, name)})
        except UserError as error:
            yield Problem(error.fact, error.remedy, [path])


def bound_links(root: Root) -> Iterator[Problem]:
    """Find links to container images that could not be followed when the image is queued."""
    try:
        bound_images(RootTree(root.path))
    except UserError as error:
        yield Problem(error.fact, error.remedy, [f"/{BOUND_DIRECTORY}"])


def nonempty_boot(root: Root) -> Iterator[Problem]:
    """Find content in /boot, which a partition is mounted over."""
    if not root.is_dir("/boot"):
        yield Problem(
            "/boot is missing; the boot partition is mounted there.",
            "Make it: RUN mkdir /boot",
            ["/boot"],
        )
    # A directory named EFI is tolerated: image builders leave the mount point of the ESP there.
    names = [name for name in root.names("/boot") if name != "EFI"]
    if names:
        yield Problem(
            "/boot has content, which the boot partition hides: the kernel belongs beside its modules.",
            "Clear it at the end of the step that fills it: RUN … && find /boot -mindepth 1 -delete",
            [f"/boot/{name}" for name in names],
        )


def baseimage_composefs(root: Root) -> Iterator[Problem]:
    """Find composefs switched off where libostree could do it, or on where it could not."""
    able = _can_composefs(root)
    path = next((path for path in _PREPARE_ROOT if root.is_file(path)), None)
    wanted = path is not None and _composefs_enabled(root.text(path))
    if able is False and wanted:
        yield Problem(
            f"{path} asks for composefs, which this image's libostree was built without; it would not boot.",
            "Remove the section [composefs] from it, or install a libostree that has composefs.",
            [path or ""],
        )
    if able is not False and not wanted:
        yield Problem(
            "composefs is not enabled; without it only /usr is protected from writes and nothing verifies files.",
            f"Write to {_PREPARE_ROOT[1]} the lines: [composefs] and: enabled = yes",
            [path or _PREPARE_ROOT[1]],
        )


def _can_composefs(root: Root) -> bool | None:
    """Whether libostree could mount with composefs; None where there is no libostree to ask."""
    folders = [*_LIBRARY_FOLDERS]
    # Debian: one library folder per architecture.
    folders += [f"/usr/lib/{name}" for name in root.names("/usr/lib") if name.count("-") == 2]  # noqa: PLR2004 - a GNU triplet
    names = {name for folder in folders for name in root.names(folder)}
    if not any(name.startswith("libostree-1.so") for name in names):
        return None
    # Debian 13's libostree has none compiled in and so depends on no libcomposefs.
    return any(name.startswith("libcomposefs.so") for name in names)


def _composefs_enabled(text: str) -> bool:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        return False
    return parser.get("composefs", "enabled", fallback="no").strip().lower() in _COMPOSEFS_ON
