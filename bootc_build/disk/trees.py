"""The installed tree, taken apart into what goes on each partition, and measured."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootc_build.disk.ext4.scan import ScannedTree, scan
from bootc_build.disk.plan import Contents

_OBJECTS = "ostree/repo/objects"
_BOOT = Path("boot")
_EFI = Path("efi")
_DEPLOYMENTS = Path("ostree/deploy")


@dataclass(frozen=True)
class Trees:
    """One folder for each partition with a file system.

    Attributes:
        root: without the contents of /boot.
        boot: without the contents of /boot/efi.
        esp: what is below /boot/efi.
        extras: for each mount point of a further file system what is below it.
    """

    root: Path
    boot: Path
    esp: Path
    extras: Mapping[str, Path] = field(default_factory=dict)

    def deployment_roots(self) -> list[Path]:
        """The folders that libostree keeps immutable."""
        found = self.root.glob(f"{_DEPLOYMENTS}/*/deploy/*.[0-9]*/")
        return sorted(path for path in found if path.suffix != ".origin")

    def gathered(self, subvolumes: Mapping[str, str]) -> Path:
        """The folder that the root file system is filled from.

        Args:
            subvolumes: name by mount point; each becomes a folder of that name. None: the root itself.
        """
        if not subvolumes:
            return self.root
        folder = self.root.with_name(f"{self.root.name}.subvolumes")
        make_folder(folder)
        for point, name in subvolumes.items():
            (self.root if point == "/" else self.extras[point]).rename(folder / name)
        return folder

    def core_image(self) -> Path:
        """GRUB's core.img for BIOS."""
        return self.boot / "grub/i386-pc/core.img"

    def boot_image(self) -> Path:
        """GRUB's boot.img for BIOS."""
        return self.boot / "grub/i386-pc/boot.img"


def split(target: Path, mountpoints: Sequence[str] = (), stateroot: str = "default") -> Trees:
    """Move /boot, /boot/efi and what is at further mount points out of an installed tree.

    Empty mount points stay in their places.

    Args:
        target: the tree.
        mountpoints: of further file systems; those below /var are the stateroot's.
        stateroot: its name.
    """
    extras = {
        point: target.with_name(f"{target.name}.extra{number}")
        for number, point in enumerate(mountpoints)
    }
    # The deepest first: /var/home is taken out of /var before that goes.
    for point in sorted(extras, key=lambda point: -point.count("/")):
        _take_out(target / _DEPLOYMENTS / stateroot / point.lstrip("/"), extras[point], point)
    trees = Trees(
        target,
        target.with_name(target.name + ".boot"),
        target.with_name(target.name + ".esp"),
        extras,
    )
    efi, boot = target / _BOOT / _EFI, target / _BOOT
    if not boot.exists():
        make_folder(boot)
    for mount_point, apart in ((efi, trees.esp), (boot, trees.boot)):
        if mount_point.is_dir():
            mount_point.rename(apart)
        else:
            make_folder(apart)
        make_folder(mount_point)
    return trees


def _take_out(mount_point: Path, apart: Path, point: str) -> None:
    if point == "/var" or point.startswith("/var/"):
        if mount_point.is_dir():
            mode = mount_point.stat().st_mode & 0o7777
            mount_point.rename(apart)
            make_folder(mount_point)
            mount_point.chmod(mode)
            return
        make_folder(mount_point)
    # Elsewhere it is a folder of the image, which is empty.
    make_folder(apart)


def make_folder(path: Path) -> None:
    """Make a folder that everybody may enter, whatever the umask: it becomes part of a system."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)


@dataclass(frozen=True)
class Settled:
    """The trees as they go on the disk.

    Attributes:
        trees: where they are.
        timestamp: seconds since the epoch; nothing is younger.
        root: read but for its files' contents, as are the others.
        boot: of /boot.
        extras: for each mount point of a further file system.
        contents: how much each takes.
    """

    trees: Trees
    timestamp: int
    root: ScannedTree
    boot: ScannedTree
    extras: Mapping[str, ScannedTree]
    contents: Contents


def settle(trees: Trees, timestamp: int) -> Settled:
    """Read the trees as they are to be, with no time later than ``timestamp``, so that "now" leaves no trace.

    Nothing below may change any more.
    """
    extras = {point: scan(tree, timestamp) for point, tree in trees.extras.items()}
    immutable = frozenset(os.fsencode(path) for path in trees.deployment_roots())
    # Whether they were written now or long ago leaves no trace: libostree gives files no time.
    objects = os.fsencode(trees.root / _OBJECTS)
    root = scan(trees.root, timestamp, immutable=immutable, timeless=objects)
    boot = scan(trees.boot, timestamp)
    contents = Contents(
        root.bytes,
        boot.bytes,
        scan(trees.esp, timestamp).bytes,
        {point: tree.bytes for point, tree in extras.items()},
    )
    return Settled(trees, timestamp, root, boot, extras, contents)


def turn_back_times(tree: Path, timestamp: int) -> None:
    """Let nothing in a tree be younger, for programs that take times from there."""
    limit = timestamp * 1_000_000_000
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            if os.lstat(path).st_mtime_ns > limit:
                os.utime(path, ns=(limit, limit), follow_symlinks=False)
    os.utime(tree, ns=(limit, limit))
