"""Remove what is left of a system that another one took over, when that has booted.

``install to-existing-root --cleanup`` leaves upstream's stamp in the old root, and a unit of the image runs this at
the next boot. What the old system was made of goes: programs, libraries, the package databases, caches, container
images. What belongs to people stays: /etc, /home, /root, /srv, /opt and the rest of /var.
"""

from pathlib import Path
from typing import Final

STAMP: Final = "etc/bootc-destructive-cleanup"
_OLD_SYSTEM: Final = (
    *("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "tmp"),
    *("var/cache", "var/tmp", "var/lib/apt", "var/lib/dpkg", "var/lib/rpm", "var/lib/containers"),
)


def request_removal(root: Path) -> None:
    """Have the system that was installed into a root remove there, when it boots, what the old one was made of."""
    stamp = root / STAMP
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()


def remove_old_system(root: Path) -> list[str]:
    """Remove what a system was made of that is not booted any more, where that was asked for.

    Interrupted, it goes on the next time. Links are not followed, other file systems not entered.

    Args:
        root: the physical root, writable.

    Returns:
        What could not be removed, and why; it is not tried again.
    """
    problems: list[str] = []
    if not (root / STAMP).exists():
        return problems
    for name in _OLD_SYSTEM:
        place = root / name
        # A link on the way would lead into the running system.
        if not any(each.is_symlink() for each in place.parents if each.is_relative_to(root)):
            _remove(place, root.stat().st_dev, problems)
    (root / STAMP).unlink()
    return problems


def _remove(place: Path, device: int, problems: list[str]) -> None:
    try:
        status = place.lstat()
        if status.st_dev != device:
            return
        if place.is_symlink() or not place.is_dir():
            place.unlink()
            return
        for entry in sorted(place.iterdir()):
            _remove(entry, device, problems)
        if not any(place.iterdir()):
            place.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(f"{place}: {error.strerror}")
