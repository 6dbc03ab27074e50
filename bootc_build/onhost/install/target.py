"""A mounted file system to install into: what identifies it, which disk it is on, and sealing it afterwards."""

import os
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import device
from bootc_build.onhost.install.underlying import Underlying, find_underlying


@dataclass(frozen=True)
class Target:
    """Facts about a root directory.

    Attributes:
        root_spec: ``UUID=…`` of the root file system, or None where it is no file system of its own.
        root_kargs: kernel arguments that it needs.
        boot_spec: ``UUID=…`` of the file system that is mounted at /boot, if one is.
        boot_type: its type, as fstab(5) has it.
        root: what the root stands on, or None where it is no file system of its own.
        boot: what /boot stands on, be it the root's.
        esp_is_mounted: whether something is mounted at /boot/efi.
        esp_disks: the disks that this is on.
    """

    root_spec: str | None
    root_kargs: tuple[str, ...]
    boot_spec: str | None
    boot: Underlying | None
    esp_is_mounted: bool
    boot_type: str | None = None
    root: Underlying | None = None
    esp_disks: tuple[Path, ...] = ()


def inspect(root: Path) -> Target:
    """Look at what is mounted at a root directory and at its /boot.

    Raises:
        UserError: a file system has no UUID.
    """
    table = device.mounts()
    mount = device.mount_of(root, table)
    if mount is None or not mount.is_whole:
        return Target(None, (), None, None, esp_is_mounted=False)
    boot = device.mount_of(root / "boot", table)
    esp = device.mount_of(root / "boot/efi", table)
    below = _underlying(mount)
    subvolume = mount.subvolume if mount.fs_type == "btrfs" else None
    flags = (f"rootflags=subvol={subvolume}",) if subvolume not in (None, "/") else ()
    return Target(
        root_spec=f"UUID={device.uuid_of(mount.source)}",
        root_kargs=flags,
        boot_spec=None if boot is None else f"UUID={device.uuid_of(boot.source)}",
        boot=below if boot is None else _underlying(boot),
        esp_is_mounted=esp is not None,
        boot_type=None if boot is None else boot.fs_type,
        root=below,
        esp_disks=() if esp is None else _underlying(esp).disks,
    )


def _underlying(mount: device.Mount) -> Underlying:
    # The numbers of btrfs are no device's.
    number = "" if mount.number.startswith("0:") else mount.number
    return find_underlying(Path(mount.source), number)


def is_host_root(root: Path) -> bool:
    """Whether a directory is on the file system that the running host has as its root."""
    try:
        return os.path.samestat(Path("/proc/1/root/.").stat(), root.stat())
    except OSError:
        return False


def inherited_root(cmdline: str) -> tuple[str | None, tuple[str, ...]]:
    """The ``root=`` and what belongs to it in a running kernel's command line (``rootflags=``, ``rd.*``)."""
    words = cmdline.split()
    root = next((word.partition("=")[2] for word in words if word.startswith("root=")), None)
    return root, tuple(word for word in words if word.startswith(("rootflags=", "rd.")))


def seal(root: Path) -> None:
    """Give freed blocks back, write everything out, and make the file systems read-only.

    Raises:
        CommandError: a file system cannot be made read-only, because something still writes to it.
    """
    points = [point for point in (root / "boot/efi", root / "boot", root) if os.path.ismount(point)]
    for point in points:
        # Not every disk knows how; nothing is lost when it does not.
        process.run(["fstrim", "--quiet-unsupported", str(point)], check=False)
    os.sync()
    for point in points:
        process.run(["mount", "-o", "remount,ro", str(point)])


def check_installed(root: Path) -> list[str]:
    """Titles of what a finished installation boots; for ``install finalize``.

    Raises:
        UserError: there is no deployment, or a boot entry names a kernel that is not there.
    """
    entries = sorted((root / "boot/loader/entries").glob("*.conf"))
    if not entries:
        raise UserError(f"Failed to find deployment in {root}.", "Run bootc install first.")
    titles = []
    for entry in entries:
        fields = dict(line.split(" ", 1) for line in entry.read_text().splitlines() if " " in line)
        for key in ("linux", "initrd"):
            name = fields.get(key, "").strip().removeprefix("/boot").lstrip("/")
            if not name or not (root / "boot" / name).is_file():
                raise UserError(
                    f"{entry} names a file that is not there: {key} {fields.get(key, '')}.",
                    "Install again.",
                )
        titles.append(fields.get("title", entry.stem))
    return titles
