"""Boot loader entries and the files that they name: what is wrong with them, and what can be mended.

Kernel and initramfs lie in ``/boot/ostree/STATEROOT-CHECKSUM``; the checksum is the SHA-256 of both, one after the
other, so a damaged copy is told from a whole one without anything else.

An entry that leads to no deployment keeps libostree from reading any, so those are looked for without it.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree.mounts import enter_private_mounts

_DEPLOYMENT: Final = re.compile(r"(?:^|\s)ostree=(\S+)")
_KERNEL_FOLDER: Final = re.compile(r"ostree/[^/]+-([0-9a-f]{64})/[^/]+")
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class BootEntry:
    """One entry.

    Attributes:
        file: where it stands.
        fields: its keys and values.
        sysroot: the root of the disk.
    """

    file: Path
    fields: dict[str, str]
    sysroot: Path

    @property
    def argument(self) -> str:
        """The value of ``ostree=``; empty where there is none."""
        found = _DEPLOYMENT.search(self.fields.get("options", ""))
        return found[1] if found else ""

    @property
    def deployment(self) -> Path | None:
        """The root that it leads to; None where it leads nowhere."""
        target = self.sysroot / self.argument.lstrip("/")
        return target if self.argument and target.is_dir() else None

    def boot_file(self, key: str) -> str:
        """The file that ``linux`` or ``initrd`` names, relative to the file system of /boot."""
        return self.fields.get(key, "").strip().removeprefix("/boot").lstrip("/")


def read_entries(sysroot: Path) -> list[BootEntry]:
    """The entries that libostree wrote."""
    files = sorted((sysroot / "boot/loader/entries").glob("ostree-*.conf"))
    return [BootEntry(file, _fields(file), sysroot) for file in files]


def _fields(file: Path) -> dict[str, str]:
    lines = file.read_text(errors="replace").splitlines()
    return {key: value.strip() for key, _blank, value in (line.partition(" ") for line in lines)}


def dangling(entries: Iterable[BootEntry]) -> list[BootEntry]:
    """Entries that lead to no deployment."""
    return [each for each in entries if each.deployment is None]


def drop_dangling(sysroot: Path, command_line: str) -> list[BootEntry]:
    """Remove entries that lead to no deployment, and write the menu anew.

    Args:
        sysroot: the root of the disk.
        command_line: of the running kernel; its entry stays, whatever becomes of it.

    Returns:
        What was removed; nothing where no other entry would be left.

    Raises:
        UserError: /boot cannot be written.
    """
    entries = read_entries(sysroot)
    booted = _DEPLOYMENT.search(command_line)
    gone = [each for each in dangling(entries) if not booted or each.argument != booted[1]]
    if not gone or len(gone) == len(entries):
        return []
    try:
        _drop(sysroot, gone)
    except OSError as error:
        raise UserError(
            f"{sysroot / 'boot'} cannot be written: {error.strerror}.", "Is it mounted read-only?"
        ) from error
    return gone


def _drop(sysroot: Path, gone: Iterable[BootEntry]) -> None:
    loader = sysroot / "boot/loader"
    for each in gone:
        try:
            each.file.unlink()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            enter_private_mounts()
            process.run(["mount", "-o", "remount,rw", str(sysroot / "boot")])
            each.file.unlink()
    generator = os.environ.get("OSTREE_GRUB2_EXEC", "")
    if generator and (loader / "grub.cfg").exists() and os.access(generator, os.X_OK):
        process.run([generator, "-o", str(loader / "grub.cfg")])
    _sync(loader / "entries")


@dataclass(frozen=True)
class DamagedKernel:
    """Files of /boot that are missing or not what the name of their folder says.

    Attributes:
        folder: where they belong.
        files: (name in the folder, whole file of the deployment), kernel and initramfs.
    """

    folder: Path
    files: tuple[tuple[str, Path], ...]


def damaged_kernels(sysroot: Path) -> Iterator[DamagedKernel]:
    """Kernels that entries name, of which their deployments have whole ones; one for each folder."""
    seen: set[Path] = set()
    for entry in read_entries(sysroot):
        names = [entry.boot_file(key) for key in ("linux", "initrd") if entry.boot_file(key)]
        found = _KERNEL_FOLDER.fullmatch(names[0]) if names else None
        if found is None:
            continue
        files = [sysroot / "boot" / name for name in names]
        if files[0].parent in seen or _checksum(files) == found[1]:
            continue
        seen.add(files[0].parent)
        # Where the deployment's own have another checksum, that is of something else, too: a device tree.
        whole = _deployed(entry, found[1], len(names))
        if whole:
            pairs = tuple((file.name, source) for file, source in zip(files, whole, strict=True))
            yield DamagedKernel(files[0].parent, pairs)


def _deployed(entry: BootEntry, checksum: str, count: int) -> list[Path]:
    """Kernel and initramfs of the entry's deployment, where they have a checksum."""
    if entry.deployment is None:
        return []
    for kernel in (entry.deployment / "usr/lib/modules").glob("*/vmlinuz"):
        files = [kernel, kernel.with_name("initramfs.img")][:count]
        if _checksum(files) == checksum:
            return files
    return []


def mend_kernel(damaged: DamagedKernel) -> None:
    """Copy kernel and initramfs from their deployment; each appears by a rename.

    Raises:
        UserError: there is no room.
    """
    try:
        damaged.folder.mkdir(parents=True, exist_ok=True)
        for name, source in damaged.files:
            new = damaged.folder / f".{name}.new"
            try:
                with source.open("rb") as whole, new.open("wb") as copy:
                    shutil.copyfileobj(whole, copy, _PIECE)
                    copy.flush()
                    os.fsync(copy.fileno())
                new.replace(damaged.folder / name)
            finally:
                new.unlink(missing_ok=True)
        _sync(damaged.folder)
    except OSError as error:
        raise UserError(f"{damaged.folder} cannot be written: {error.strerror}.") from error


def _checksum(files: Iterable[Path]) -> str:
    """SHA-256 of files, one after the other; empty where one cannot be read."""
    hasher = hashlib.sha256()
    try:
        for path in files:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    hasher.update(piece)
    except OSError:
        return ""
    return hasher.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
