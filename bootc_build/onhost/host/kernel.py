"""Whether an image can boot as far as its files tell: one whole kernel, with its initramfs, and an /etc.

libostree deploys a kernel without an initramfs or without its end too, and takes any of several kernels: the
machine would be found not to boot when it is too late.
"""

from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kernel_file import HEAD_BYTES, whole_length

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.repo import Repo

_MODULES: Final = "usr/lib/modules"
_LEGACY: Final = "usr/lib/ostree-boot"


def check_kernel(repo: "Repo", commit: str) -> None:
    """Refuse a commit that would not boot.

    Raises:
        UserError: no kernel, more than one, one whose end is missing, or no initramfs; names the paths.
    """
    from bootc_build.onhost.ostree.files import file_head, file_names  # noqa: PLC0415 - libostree takes time

    releases = [
        name for name, is_directory in file_names(repo, commit, _MODULES).items() if is_directory
    ]
    contents = {name: file_names(repo, commit, f"{_MODULES}/{name}") for name in sorted(releases)}
    kernels = [name for name, files in contents.items() if "vmlinuz" in files]
    if len(kernels) > 1:
        raise UserError(
            f"The image has {len(kernels)} kernels: {', '.join(kernels)} below /{_MODULES}.",
            "Leave one: remove the packages of the others in the Containerfile.",
        )
    if not kernels:
        if file_names(repo, commit, _LEGACY):
            return  # an old layout, which libostree judges itself
        raise UserError(
            f"The image has no kernel: there is no /{_MODULES}/*/vmlinuz.",
            "Build it on a bootable base image.",
        )
    if "initramfs.img" not in contents[kernels[0]]:
        raise UserError(
            f"The image has no initramfs: there is no /{_MODULES}/{kernels[0]}/initramfs.img.",
            "Make it in the Containerfile, with dracut.",
        )
    path = f"{_MODULES}/{kernels[0]}/vmlinuz"
    head, size = file_head(repo, commit, path, HEAD_BYTES)
    if size < whole_length(head):
        raise UserError(
            f"The kernel of the image is not whole: /{path} has {size} bytes, and its header tells of "
            f"{whole_length(head)}.",
            "Install its package again in the Containerfile, and build the image anew.",
        )


def check_etc(repo: "Repo", commit: str) -> None:
    """Refuse a commit from which no /etc could be made.

    Raises:
        UserError: there is none, or it is no directory.
    """
    from bootc_build.onhost.ostree.files import CommitTree  # noqa: PLC0415 - libostree takes time

    if not CommitTree(repo, commit).is_directory("etc"):
        raise UserError(
            "/etc of the image is missing, or no directory.",
            "Build it on a bootable base image, and leave its /etc a directory.",
        )
