"""What an image says about its own installation (``bootc/install/*.toml``), as far as a disk here can keep it. Pure.

The image's installer applies the rest by itself; what it would lose without a word is refused.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from bootc_build.config.record import ConfigurationError, Problem
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.wanted import Layout
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.install.configuration import InstallConfiguration

DEFAULT_STATEROOT: Final = "default"
# It becomes the name of a folder, and a part of the names of kernels and of ostree= on the command line.
_STATEROOT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# The OCI's words -> `uname -m`.
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
# The key path of a file, with the file.
Found = tuple[str, Problem]


def stateroot(install: InstallConfiguration) -> str:
    """The name of the group of deployments that share /var."""
    return install.stateroot or DEFAULT_STATEROOT


def root_mount_spec(install: InstallConfiguration, identity: Identity, layout: Layout) -> str:
    """How the kernel finds the root: as the image says where that names it, or by its UUID."""
    said = install.root_mount_spec
    return said if said in _root_names(layout) else f"UUID={identity.file_system(Role.ROOT)}"


def install_problems(install: InstallConfiguration, layout: Layout) -> Iterator[Found]:
    """What of the image's configuration cannot be kept, each with the file that says it."""
    for key, problem in _problems(install, layout):
        where = f"{install.origins.get(key, 'bootc/install')} of the image"
        yield where, problem


def raise_found(found: Iterable[Found]) -> None:
    """Raise if there is a problem in any file; all of them at once.

    Raises:
        ConfigurationError: there are, in one file.
        UsageError: there are, in several.
    """
    files: dict[str, list[Problem]] = {}
    for where, problem in found:
        files.setdefault(where, []).append(problem)
    errors = [ConfigurationError(where, problems) for where, problems in files.items()]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = (f"{each.fact} {each.remedy}".rstrip() for each in errors)
        raise UsageError("\n".join(lines))


def _root_names(layout: Layout) -> tuple[str, ...]:
    label = (f"LABEL={layout.root_label}",)
    # The name in the partition table; a logical volume is in none.
    return label if layout.root_volume else (*label, f"PARTLABEL={Role.ROOT.value}")


def _problems(install: InstallConfiguration, layout: Layout) -> Iterator[tuple[str, Problem]]:
    def problem(key: str, fact: str, remedy: str) -> tuple[str, Problem]:
        return key, Problem(f"install.{key}", fact, remedy)

    if install.block[:1] == ("tpm2-luks",):
        yield problem(
            "block",
            "asks for an encrypted root (tpm2-luks), which only the machine that has the TPM can make",
            "Run there: bootc install to-disk --block-setup tpm2-luks; or name 'direct' first in 'block', if an "
            "unencrypted root will do.",
        )
    if install.bootloader not in (None, "grub"):
        yield problem(
            "bootloader",
            f"is {install.bootloader}, and a disk made here boots with GRUB",
            "Leave it out or say grub; for another boot loader run there: bootc install to-filesystem.",
        )
    if install.root_mount_spec not in (None, *_root_names(layout)):
        yield problem(
            "root-mount-spec",
            f"is '{install.root_mount_spec}', by which nothing finds the root of this disk",
            f"Leave it out, for its UUID, or say one of: {', '.join(_root_names(layout))}; root.label in disk.yaml "
            "gives the root another label.",
        )
    if install.boot_mount_spec is not None:
        yield problem(
            "boot-mount-spec",
            f"is '{install.boot_mount_spec}', and the UUID of /boot is made with the disk",
            "Leave it out: /boot is found by its UUID, the only thing that GRUB finds it by.",
        )
    if install.discoverable_partitions:
        yield problem(
            "discoverable-partitions",
            "is true, which Debian's GRUB cannot do",
            "Leave it out: the root is found by its UUID.",
        )
    if install.stateroot is not None and not _STATEROOT.fullmatch(install.stateroot):
        yield problem(
            "stateroot",
            f"is '{install.stateroot}', which cannot be the name of a folder",
            "Use letters, digits, '.', '_' and '-'.",
        )
