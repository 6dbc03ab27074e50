"""What the tree of a system says of itself: name, kernels, packages. The tree need not be mounted."""

from collections.abc import Iterator

from bootc_build.inspection.records import Contents
from bootc_build.inspection.trees import FileTree, read_text
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import KARGS_DIRECTORY, image_kargs
from bootc_build.onhost.host.package_list import parse_dpkg

_DPKG = ("/usr/lib/sysimage/dpkg/status", "/var/lib/dpkg/status")
_MODULES = "/usr/lib/modules"
_LIBRARIES = (("/usr/lib/shim", ".signed"), ("/usr/lib/systemd/boot/efi", ".signed"))
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def read_contents(tree: FileTree) -> Contents:
    """Name and version by os-release, kernels, and packages by dpkg's database."""
    status = next((text for path in _DPKG if (text := read_text(tree, path))), None)
    return Contents(
        _pretty_name(read_text(tree, "/usr/lib/os-release") or ""),
        kernels(tree),
        None if status is None else dict(sorted(parse_dpkg(status).items())),
    )


def kernels(tree: FileTree) -> tuple[str, ...]:
    """Versions of the kernels below /usr/lib/modules."""
    return tuple(
        version
        for version in tree.names(_MODULES)
        if "vmlinuz" in tree.names(f"{_MODULES}/{version}")
    )


def kernel_arguments(tree: FileTree, architecture: str, notes: list[str]) -> tuple[str, ...]:
    """What an image's ``kargs.d`` gives on an architecture (in the OCI's words).

    Args:
        tree: the image's.
        architecture: in the OCI's words.
        notes: gets what is wrong there; nothing is given then, as nothing is installed.
    """
    folder = f"/{KARGS_DIRECTORY}"
    texts = {name: read_text(tree, f"{folder}/{name}") or "" for name in tree.names(folder)}
    try:
        return image_kargs(texts, _MACHINES.get(architecture, architecture))
    except UserError as error:
        notes.append(f"The kernel arguments cannot be told: {error.fact}")
        return ()


def efi_programs(tree: FileTree) -> Iterator[tuple[str, bytes]]:
    """The signed boot loaders and the kernels that packages brought."""
    folders = list(_LIBRARIES)
    grub = "/usr/lib/grub"
    folders += [(f"{grub}/{name}", ".signed") for name in tree.names(grub)]
    paths = [
        f"{folder}/{name}"
        for folder, suffix in folders
        for name in tree.names(folder)
        if name.endswith(suffix)
    ]
    paths += [f"{_MODULES}/{version}/vmlinuz" for version in kernels(tree)]
    for path in paths:
        content = tree.read(path)
        if content is not None:
            yield path, content


def _pretty_name(os_release: str) -> str:
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    return fields.get("PRETTY_NAME", fields.get("NAME", "")).strip("\"'")
