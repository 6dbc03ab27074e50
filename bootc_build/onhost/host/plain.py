"""What has to be right before a host that ostree deployed, but no image of ours, is switched to an image.

At shutdown the host's own libostree writes the boot entries, as it does for its own upgrades. From the first
boot of the image on, the image's libostree writes them, with what is configured on the host's disk. Whether
that will work is decided here, before anything is queued. The rules of libostree's boot loader backends are
read from its sources (ostree-bootloader-grub2.c).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.repo import Repo

_OUR_MENU: Final = "usr/libexec/bootc/grub-menu"
_MKCONFIG: Final = ("usr/sbin/grub-mkconfig", "usr/sbin/grub2-mkconfig")
_MKCONFIG_SCRIPT: Final = "usr/etc/grub.d/15_ostree"
_BIOS_MENUS: Final = ("grub2/grub.cfg", "grub/grub.cfg")


@dataclass(frozen=True)
class BootFacts:
    """How a host boots.

    Attributes:
        configured: ``sysroot.bootloader`` of the repository; ``auto`` where it is not set.
        prefixed: ``sysroot.bootprefix``: boot entries name kernels as /boot/...
        menu: GRUB's menu, relative to /boot, if there is one; and whether it is a link into ``loader``.
        menu_is_linked: whether GRUB sees what libostree writes.
        separate: /boot is a file system of its own.
        linked_to_itself: /boot/boot leads to /boot.
    """

    configured: str
    prefixed: bool
    menu: str | None
    menu_is_linked: bool
    separate: bool
    linked_to_itself: bool

    @property
    def uses_grub(self) -> bool:
        """Whether libostree will write a GRUB menu."""
        return self.configured == "grub2" or (self.configured == "auto" and self.menu is not None)


def read_boot_facts(
    configuration: Mapping[tuple[str, str], str],
    boot: Path = Path("/boot"),
    sysroot: Path = Path("/sysroot"),
) -> BootFacts:
    """Look at a host.

    Args:
        configuration: of its repository, (group, key) to value.
        boot: its /boot.
        sysroot: its physical root.
    """
    menu = next((name for name in _BIOS_MENUS if (boot / name).exists()), None)
    linked = False
    if menu is None:
        found = sorted(boot.glob("efi/EFI/*/grub.cfg"))
        menu = str(found[0].relative_to(boot)) if found else None
        linked = True  # libostree replaces the file itself
    else:
        loader = (boot / "loader").resolve()
        linked = (boot / menu).is_symlink() and (boot / menu).resolve().parent == loader
    itself = boot / "boot"
    return BootFacts(
        configured=configuration.get(("sysroot", "bootloader"), "auto"),
        prefixed=configuration.get(("sysroot", "bootprefix"), "false").lower() == "true",
        menu=menu,
        menu_is_linked=linked,
        separate=boot.stat().st_dev != sysroot.stat().st_dev,
        linked_to_itself=itself.is_symlink() and itself.samefile(boot),
    )


def check_host(facts: BootFacts) -> None:
    """Refuse a host whose boot menu does not follow its deployments.

    Raises:
        UserError: names what is wrong.
    """
    if not facts.uses_grub:
        return
    if facts.menu is None or not facts.menu_is_linked:
        place = f"/boot/{facts.menu or 'grub/grub.cfg'}"
        raise UserError(
            f"{place} is not a link into /boot/loader, so GRUB would go on booting the old system.",
            f"Point it at what ostree writes: ln -sf ../loader/grub.cfg {place}",
        )
    if facts.separate and facts.prefixed and not facts.linked_to_itself:
        raise UserError(
            "Boot entries name kernels as /boot/..., which is not true on the file system of /boot.",
            "Make it true with: ln -s . /boot/boot",
        )


def check_image(facts: BootFacts, repo: "Repo", commit: str) -> None:
    """Refuse an image that could not write this host's boot entries, or could not be upgraded.

    Raises:
        UserError: names what it lacks.
    """
    from bootc_build.onhost.ostree.files import has_file  # noqa: PLC0415 - libostree takes time

    if not has_file(repo, commit, "usr/bin/bootc"):
        raise UserError(
            "The image has no /usr/bin/bootc: the host could not be upgraded after the switch.",
            "Build it on a base image of bootc-build base, or any other with bootc in it.",
        )
    if not facts.uses_grub or has_file(repo, commit, _OUR_MENU):
        return
    own = any(has_file(repo, commit, each) for each in _MKCONFIG)
    if not own or not has_file(repo, commit, _MKCONFIG_SCRIPT):
        raise UserError(
            "This host boots with GRUB, and the image has nothing to write its menu with.",
            f"It needs /{_OUR_MENU}, or grub-mkconfig with /etc/grub.d/15_ostree.",
        )
