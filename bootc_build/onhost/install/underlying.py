"""What the device of a file system stands on: disks that firmware reads, below arrays and logical volumes.

Source: the kernel's documentation of /sys/block (``slaves``, ``md``, ``dm``), LVM's names and UUIDs of device-mapper
devices (``lib/activate/dev_manager.c``), and what GRUB's modules ``diskfilter``, ``lvm``, ``mdraid09`` and ``mdraid1x``
can put together.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import device, initramfs

SYSTEM: Final = Path("/sys")
DEVICES: Final = Path("/dev")
# What GRUB reads of an array, and the modules that do it where a disk of it is gone.
_LEVELS: Final = {
    "raid0": (),
    "raid1": (),
    "raid4": ("raid5rec",),
    "raid5": ("raid5rec",),
    "raid6": ("raid5rec", "raid6rec"),
    "raid10": (),
}
# The beginning of the disk is that of the array, so firmware reads either as a disk.
_BARE_METADATA: Final = ("0.90", "1.0")
# The end of an LVM device's UUID says what it is within a volume; these are the parts that GRUB knows.
_LVM_UUID: Final = re.compile(r"LVM-(\w{32})\w{32}(?:-(\w+))?")
_LVM_PARTS: Final = (None, "real", "rimage", "rmeta", "mimage", "mlog")
# A hyphen in a name is doubled, the one between group and volume is not.
_LVM_NAME: Final = re.compile(r"((?:[^-]|--)+)-((?:[^-]|--)+)")
# What the device mapper shows of a disk with several paths, or of a controller's array: a disk for firmware, too.
_DISK_LIKE: Final = ("mpath", "DMRAID")
# Of an array or a volume: the program that brings it up, its package, dracut's module of that.
_BROUGHT_UP_BY: Final = {"mdraid": ("mdadm", "mdadm"), "lvm": ("lvm", "lvm2")}


@dataclass(frozen=True)
class Underlying:
    """What a device stands on.

    Attributes:
        device: the device.
        disks: where it lies, as firmware sees them; none where `obstacle` says why.
        grub_modules: what GRUB's core for BIOS needs to read it, beyond partitions.
        obstacle: why no disk was found, or GRUB cannot read it.
        readable: whether GRUB can.
        arrays: a member of each array of md.
        volumes: logical volumes, as GROUP/VOLUME.
    """

    device: str
    disks: tuple[Path, ...] = ()
    grub_modules: tuple[str, ...] = ()
    obstacle: str = ""
    readable: bool = True
    arrays: tuple[Path, ...] = ()
    volumes: tuple[str, ...] = ()

    @property
    def dracut_modules(self) -> tuple[str, ...]:
        """What an initramfs needs to bring it up."""
        return ("mdraid",) * bool(self.arrays) + ("lvm",) * bool(self.volumes)

    def kernel_arguments(self) -> tuple[str, ...]:
        """By what the initramfs brings it up if it is the root.

        Raises:
            UserError: an array has no UUID.
        """
        arrays = (f"rd.md.uuid={device.uuid_of(str(member))}" for member in self.arrays)
        return (*arrays, *(f"rd.lvm.lv={volume}" for volume in self.volumes))


def find_underlying(source: Path, number: str = "") -> Underlying:
    """Look what a device stands on.

    Args:
        source: the device.
        number: its ``major:minor``, where that is known better than by the path.
    """
    try:
        if not number:
            of = source.stat().st_rdev
            number = f"{os.major(of)}:{os.minor(of)}"
        system = (SYSTEM / "dev/block" / number).resolve(strict=True)
    except OSError:
        return Underlying(str(source), obstacle=f"{source} is no device that is known here")
    search = _Search()
    try:
        search.beneath(system)
    except _UnreadableError as error:
        return Underlying(str(source), obstacle=str(error), readable=False)
    except OSError as error:
        return Underlying(str(source), obstacle=f"{error.filename} cannot be read")
    gone = next((disk for disk in search.disks if not disk.exists()), None)
    return Underlying(
        str(source),
        () if gone else tuple(search.disks),
        tuple(search.modules),
        f"{gone} is not there" if gone else "",
        arrays=tuple(search.arrays),
        volumes=tuple(search.volumes),
    )


def check_image(root: Underlying, boot: Underlying, *, image_root: Path = Path("/")) -> None:
    """Make sure that the image can bring up what it will boot from.

    Args:
        root: what the root file system stands on; brought up by the initramfs.
        boot: what /boot stands on.
        image_root: where the image's programs are.

    Raises:
        UserError: names the package to install.
    """
    for wanted in dict.fromkeys((*root.dracut_modules, *boot.dracut_modules)):
        program, package = _BROUGHT_UP_BY[wanted]
        if not any((image_root / place / program).exists() for place in ("usr/sbin", "usr/bin")):
            on = root if wanted in root.dracut_modules else boot
            raise UserError(
                f"The image lacks {package}, and {on.device} could not be brought up without.",
                f"Install in the Containerfile: {package}",
            )
    packages = " ".join(_BROUGHT_UP_BY[wanted][1] for wanted in root.dracut_modules)
    if packages:
        modules = [(wanted,) for wanted in root.dracut_modules]
        initramfs.check(modules, f"Install in the Containerfile: {packages}")


class _UnreadableError(Exception):
    """GRUB cannot read it; says why."""


@dataclass
class _Search:
    """What was found on the way down; dictionaries, for their order and because a part may be met twice."""

    disks: dict[Path, None] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    arrays: dict[Path, None] = field(default_factory=dict)
    volumes: dict[str, None] = field(default_factory=dict)

    def beneath(self, system: Path, group: str = "") -> None:
        """Go on with a device: a folder of /sys. ``group`` is the LVM volume group whose volume it is a part of."""
        if (system / "partition").exists():
            self._disk(system.parent)
        elif (system / "md").is_dir():
            self._array(system)
        elif (system / "dm").is_dir():
            self._mapped(system, group)
        elif _slaves(system):
            raise _UnreadableError(f"{_node(system)} is neither a partition nor an array nor LVM's")
        else:
            self._disk(system)

    def _disk(self, system: Path) -> None:
        if (system / "md").is_dir():
            level, version = _array_facts(system)
            # A controller's array is a disk for firmware.
            bare = version.startswith("external") or (
                level == "raid1" and version in _BARE_METADATA
            )
            if not bare:
                raise _UnreadableError(
                    f"{_node(system)} is an array with partitions, which firmware takes for no disk"
                )
        self.disks[_node(system)] = None

    def _array(self, system: Path) -> None:
        level, version = _array_facts(system)
        if version.startswith("external"):
            self.disks[_node(system)] = None
            return
        if level not in _LEVELS:
            raise _UnreadableError(f"{_node(system)} is an array of the level {level}")
        modules = ("mdraid09" if version.startswith("0.") else "mdraid1x", *_LEVELS[level])
        self.modules.update(dict.fromkeys(modules))
        members = _slaves(system)
        if members:
            self.arrays[_node(members[0])] = None
        for member in members:
            self.beneath(member)

    def _mapped(self, system: Path, group: str) -> None:
        uuid = _text(system / "dm/uuid")
        node, kind = _node(system), uuid.partition("-")[0]
        if kind in _DISK_LIKE:
            self.disks[node] = None
            return
        lvm = _LVM_UUID.fullmatch(uuid)
        if lvm is not None:
            if lvm[2] not in _LVM_PARTS:
                raise _UnreadableError(f"{node} is a thin, cached or compressed logical volume")
            self.modules["lvm"] = None
            if lvm[1] != group:
                self._volume(_text(system / "dm/name"))
            group = lvm[1]
        elif kind == "CRYPT":
            raise _UnreadableError(f"{node} is encrypted")
        elif not kind.startswith("part"):
            raise _UnreadableError(f"{node} is a device of the device mapper that is not LVM's")
        for part in _slaves(system):
            self.beneath(part, group)

    def _volume(self, name: str) -> None:
        found = _LVM_NAME.fullmatch(name)
        if found is not None:
            self.volumes["/".join(part.replace("--", "-") for part in found.groups())] = None


def _array_facts(system: Path) -> tuple[str, str]:
    return _text(system / "md/level"), _text(system / "md/metadata_version")


def _slaves(system: Path) -> list[Path]:
    folder = system / "slaves"
    return sorted(each.resolve() for each in folder.iterdir()) if folder.is_dir() else []


def _node(system: Path) -> Path:
    # A slash in a device's name is an exclamation mark there.
    return DEVICES / system.name.replace("!", "/")


def _text(path: Path) -> str:
    return path.read_text().strip()
