"""A disk with a small ostree host in it, deployed by libostree, and transactions on it, good ones and broken ones.

debugfs does in single steps what a guest would; each step's changed blocks are an epoch of the log. Its writes pass no
journal, so states between flushes would be damaged in another way than a guest's, and only those at flushes are used.
"""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from bootc_build.disk.ext4.fill import Identity, make_ext4
from bootc_build.disk.ext4.scan import scan
from bootc_build.onhost.ostree.sysroot import create_sysroot
from bootc_build.testing.crash_points.write_log import FLUSH, SECTOR, WriteLog, write_log
from bootc_build.tools.e2fsprogs import BLOCK, Ext4Slot, edit
from bootc_build.tools.sfdisk import GptEntry, write_gpt
from tests.host.invented_os import GENERATOR, make_tree

_MIB = 1 << 20
_TYPE = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_BOOT = GptEntry(1, 2048, 24 * _MIB // SECTOR, _TYPE, UUID(int=1), "boot")
_ROOT = GptEntry(2, 2048 + 24 * _MIB // SECTOR, 64 * _MIB // SECTOR, _TYPE, UUID(int=2), "root")
_NOW = 1_700_000_000


@dataclass
class SmallDisk:
    """The disk, in the state before any transaction, and the files of /boot after one.

    Args:
        path: the raw disk.
        after: a folder with /boot as it is when the second version has been deployed.
        commits: of the two versions.
    """

    path: Path
    after: Path
    commits: tuple[str, str]

    @property
    def boot(self) -> Ext4Slot:
        return _slot(self.path, _BOOT)

    @property
    def root(self) -> Ext4Slot:
        return _slot(self.path, _ROOT)


@dataclass
class Recorder:
    """Changes a copy of a disk in steps."""

    disk: SmallDisk
    folder: Path
    entries: list[tuple[int, bytes, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._copy = self.folder / "changed.raw"
        shutil.copyfile(self.disk.path, self._copy)

    def step(self, slot: Ext4Slot, commands: Iterable[str]) -> None:
        """debugfs commands, and a flush."""
        place = Ext4Slot(self._copy, slot.offset, slot.size)
        before = _read(place)
        edit(place, commands, _NOW)
        self._note(place, before, _read(place))

    def overwrite(self, slot: Ext4Slot, block: int, data: bytes) -> None:
        """One block, and a flush."""
        self.entries += [((slot.offset + block * BLOCK) // SECTOR, data, 0), (0, b"", FLUSH)]

    def log(self) -> WriteLog:
        return write_log(self.folder / "writes.log", self.entries)

    def _note(self, slot: Ext4Slot, before: bytes, after: bytes) -> None:
        for at in range(0, len(after), BLOCK):
            if before[at : at + BLOCK] != after[at : at + BLOCK]:
                self.entries.append(((slot.offset + at) // SECTOR, after[at : at + BLOCK], 0))
        self.entries.append((0, b"", FLUSH))


def make_disk(folder: Path) -> SmallDisk:
    """Two versions in the repository and deployed; /boot knows the first only."""
    sysroot = folder / "sysroot"
    sysroot.mkdir()
    create_sysroot(sysroot, {("sysroot", "bootloader"): "none", ("sysroot", "bootprefix"): "true"})
    subprocess.run(["ostree", "admin", "os-init", f"--sysroot={sysroot}", "default"], check=True)
    commits = []
    boots = []
    links: dict[str, str] = {}
    for version in ("1", "2"):
        tree = folder / f"tree{version}"
        make_tree(tree, version=version)
        commits.append(_commit(sysroot, tree))
        deploy = ["ostree", "admin", "deploy", f"--sysroot={sysroot}", "--os=default", "--retain"]
        subprocess.run([*deploy, "--karg=rw", "test"], check=True, capture_output=True)
        boots.append(_take_boot(sysroot, folder / f"boot{version}"))
        # What libostree removes at the end of the second deployment: between two swaps both are there.
        for path in (sysroot / "ostree").glob("boot.?"):
            links.setdefault(path.name, str(path.readlink()))
            kept = folder / "links" / str(path.readlink())
            if not kept.exists():
                shutil.copytree(path.parent / path.readlink(), kept, symlinks=True)
    for name, target in links.items():
        if not (sysroot / "ostree" / name).is_symlink():
            (sysroot / "ostree" / name).symlink_to(target)
            shutil.copytree(folder / "links" / target, sysroot / "ostree" / target, symlinks=True)
    shutil.rmtree(sysroot / "boot")
    (sysroot / "boot").mkdir()
    disk = SmallDisk(folder / "disk.raw", boots[1], (commits[0], commits[1]))
    _lay_out(disk, boots[0], sysroot)
    # As libostree leaves it nobody could remove it.
    roots = [path for path in (sysroot / "ostree/deploy/default/deploy").iterdir() if path.is_dir()]
    subprocess.run(["chattr", "-i", *roots], check=True)
    return disk


def new_kernel(disk: SmallDisk) -> list[str]:
    """Commands that put the second version's kernel into /boot."""
    return [
        command
        for place in sorted((disk.after / "ostree").iterdir())
        if not _is_there(disk.boot, f"/ostree/{place.name}")
        for command in _copy_tree(place, f"/ostree/{place.name}")
    ]


def new_loader(disk: SmallDisk) -> list[str]:
    """Commands that put the second version's entries and menu beside the first's."""
    name = (disk.after / "loader").readlink()
    return _copy_tree(disk.after / name, f"/{name}")


def swap(disk: SmallDisk) -> list[str]:
    """The command that makes the link `loader` lead there: a write of one sector, like a rename."""
    name = str((disk.after / "loader").readlink()).encode()
    return [f"sif /loader block[1] {int.from_bytes(name[4:8], 'little'):#x}"]


def swap_in_two(disk: SmallDisk) -> tuple[list[str], list[str]]:
    """The same, not atomic."""
    return ["rm /loader"], [f"symlink /loader {(disk.after / 'loader').readlink()}"]


def _take_boot(sysroot: Path, copy: Path) -> Path:
    """A copy of /boot with a menu."""
    boot = sysroot / "boot"
    subprocess.run([GENERATOR, "-o", boot / "loader/grub.cfg"], check=True)
    (boot / "grub").mkdir(exist_ok=True)
    for link, target in ((boot / "grub/grub.cfg", "../loader/grub.cfg"), (boot / "boot", ".")):
        if not link.is_symlink():
            link.symlink_to(target)
    shutil.copytree(boot, copy, symlinks=True)
    return copy


def _lay_out(disk: SmallDisk, boot: Path, root: Path) -> None:
    with disk.path.open("wb") as file:
        file.truncate((_ROOT.start + _ROOT.sectors) * SECTOR + _MIB)
    write_gpt(disk.path, UUID(int=3), [_BOOT, _ROOT])
    for slot, tree, name in ((disk.boot, boot, "boot"), (disk.root, root, "root")):
        identity = Identity(UUID(int=4), UUID(int=5), name, _NOW)
        make_ext4(slot, scan(tree, _NOW), identity).write_contents()


def _slot(path: Path, entry: GptEntry) -> Ext4Slot:
    return Ext4Slot(path, entry.start * SECTOR, entry.sectors * SECTOR)


def _read(slot: Ext4Slot) -> bytes:
    with slot.disk.open("rb") as file:
        file.seek(slot.offset)
        return file.read(slot.size)


def _commit(sysroot: Path, tree: Path) -> str:
    command = ["ostree", "commit", f"--repo={sysroot}/ostree/repo", "--branch=test"]
    owner = ["--owner-uid=0", "--owner-gid=0", f"--tree=dir={tree}"]
    done = subprocess.run([*command, *owner], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _is_there(slot: Ext4Slot, path: str) -> bool:
    said = subprocess.run(
        ["debugfs", "-R", f'stat "{path}"', slot.device], check=True, capture_output=True, text=True
    )
    return "Inode:" in said.stdout


def _copy_tree(source: Path, target: str) -> list[str]:
    commands = [f"mkdir {target}"]
    for path in sorted(source.iterdir()):
        inside = f"{target}/{path.name}"
        if path.is_dir():
            commands += _copy_tree(path, inside)
        else:
            commands.append(f"write {path} {inside}")
    return commands
