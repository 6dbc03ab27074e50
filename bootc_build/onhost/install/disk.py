"""Install to a whole disk, or to a file that becomes one: partition, format, mount, install, unmount.

The layout is that of ``bootc-build disk``: GPT; 1 MiB for GRUB's core image (BIOS), an EFI system partition,
/boot on ext4 (GRUB reads and libostree swaps it atomically), and the root.
"""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from bootc_build.onhost import process
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.install import device, encryption, firmware
from bootc_build.onhost.install.bootsector import SECTOR
from bootc_build.onhost.install.filesystem import check_request, install_to_filesystem
from bootc_build.onhost.install.request import BootDisk, InstallRequest
from bootc_build.onhost.ostree.mounts import enter_private_mounts
from bootc_build.onhost.progress import Progress

_MOUNTS: Final = Path("/run/bootc/mounts")
_MIB: Final = 1024 * 1024
_LINUX: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
# systemd and our own unit enlarge what has it (Discoverable Partitions Specification, "grow file system").
_GROW_ATTRIBUTE: Final = 59
# The Discoverable Partitions Specification.
_ROOT_TYPES: Final = {
    "x86_64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "aarch64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
}
# Partitions by their number.
_BIOS_BOOT, _ESP, _BOOT, _ROOT = range(1, 5)
_SIZES_MIB: Final = {_BIOS_BOOT: 1, _ESP: 128, _BOOT: 1024}
_NODE_SECONDS: Final = 15
_UNITS: Final = {"M": 1, "G": 1024, "T": 1024 * 1024}
_MKFS: Final = {
    "ext4": ("e2fsprogs", ("-q", "-F", "-O", "verity", "-U")),
    "xfs": ("xfsprogs", ("-q", "-f", "-m")),
    "btrfs": ("btrfs-progs", ("-q", "-f", "-U")),
}


@dataclass(frozen=True)
class DiskTarget:
    """The disk to install to.

    Attributes:
        path: a block device, or a regular file with ``loopback``.
        loopback: it is a file.
        wipe: what is on it may be lost.
        filesystem: ``ext4``, ``xfs`` or ``btrfs``, for the root.
        root_mib: size of the root partition in MiB; None for all that is left.
        encrypted: the root is a volume that only this machine's TPM opens.
    """

    path: Path
    loopback: bool
    wipe: bool
    filesystem: str
    root_mib: int | None
    encrypted: bool = False


def parse_root_size(text: str) -> int:
    """MiB for ``--root-size``: a number with M (the default), G or T.

    Raises:
        UsageError: it is none.
    """
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "M")
    if not digits.isdigit() or not int(digits) or unit not in _UNITS:
        raise UsageError(f"'{text}' is not a size.", "Give it like 8192M, 8G or 1T.")
    return int(digits) * _UNITS[unit]


def partition_script(root_type: str, root_mib: int | None, *, grows: bool = True) -> str:
    """What sfdisk(8) reads to make the table.

    Args:
        root_type: GPT type of the root.
        root_mib: its size; None for all that is left.
        grows: whether the system may enlarge a root without a size when the disk is enlarged.
    """
    root_size = "" if root_mib is None else f"size={root_mib}MiB, "
    grow = f', attrs="GUID:{_GROW_ATTRIBUTE}"' if grows and root_mib is None else ""
    return "\n".join(
        (
            "label: gpt",
            f"size={_SIZES_MIB[_BIOS_BOOT]}MiB, type={device.BIOS_BOOT_TYPE}, name=bios-boot",
            f"size={_SIZES_MIB[_ESP]}MiB, type={device.ESP_TYPE}, name=esp",
            f"size={_SIZES_MIB[_BOOT]}MiB, type={_LINUX}, name=boot",
            f"{root_size}type={root_type}, name=root{grow}",
            "",
        )
    )


def install_to_disk(target: DiskTarget, wanted: InstallRequest, progress: Progress) -> None:
    """Install to a disk. Everything on it is lost.

    Args:
        target: the disk.
        wanted: the rest; its paths and file system specifications are filled in here.
        progress: hears of the steps.

    Raises:
        UserError: the disk is in use, not empty, too small; a program is missing; as `check_request` and
            `install_to_filesystem`.
    """
    if os.geteuid() != 0:
        raise UserError("Installing needs root.", "Run the command as root or with sudo.")
    _check_programs(target.filesystem)
    root_type = _ROOT_TYPES.get(os.uname().machine)
    if root_type is None:
        raise UserError(f"There is no disk layout for {os.uname().machine}.")
    disk = target.path.resolve()
    _check_kind(disk, loopback=target.loopback)
    if target.encrypted:
        _check_encryption(target)
    _check_free(disk, wipe=target.wipe)
    check_request(wanted)
    progress.step(f"Partitioning {target.path}")
    # What an encrypted volume holds cannot be enlarged together with its partition.
    script = partition_script(root_type, target.root_mib, grows=not target.encrypted)
    partitions = _partition(disk, script)
    progress.step("Making file systems")
    firmware.make_esp(disk, partitions[_ESP - 1])
    nodes = _loops if target.loopback else _kernel_nodes
    with (
        nodes(disk, [partitions[_BOOT - 1], partitions[_ROOT - 1]]) as (boot, partition),
        _volume(partition, encrypted=target.encrypted) as root,
    ):
        boot_uuid = _make(boot, "ext4", "boot")
        root_uuid = _make(root.node, target.filesystem, "root")
        with _mounted(root.node, boot, target.filesystem) as point:
            complete = replace(
                wanted,
                root_path=point,
                root_mount_spec=f"UUID={root_uuid}",
                root_kargs=root.kargs,
                boot_mount_spec=f"UUID={boot_uuid}",
                boot_uuid=boot_uuid,
                disks=(BootDisk(disk, wanted.bootloaders),),
            )
            install_to_filesystem(complete, progress)
            progress.step("Writing everything to the disk")
            _empty_esp_directory(point / "boot/efi")
            for each in (point / "boot", point):
                process.run(["fstrim", "--quiet-unsupported", str(each)], check=False)


def _check_programs(filesystem: str) -> None:
    package = _MKFS[filesystem][0]
    for program, where in (
        ("sfdisk", "fdisk"),
        ("wipefs", "util-linux"),
        ("mount", "mount"),
        ("losetup", "mount"),
        ("blkid", "util-linux"),
        ("mformat", "mtools"),
        ("mcopy", "mtools"),
        ("mkfs.ext4", "e2fsprogs"),
        (f"mkfs.{filesystem}", package),
    ):
        process.find_program(program, f"Install in the Containerfile: {where}")


def _check_kind(disk: Path, *, loopback: bool) -> None:
    if loopback and not disk.is_file():
        raise UserError(
            f"{disk} is not a file to install into.",
            f"Make one, for example: truncate -s 10G {disk}",
        )
    if not loopback and not device.is_block_device(disk):
        raise UserError(
            f"{disk} is not a block device.",
            "Name a disk like /dev/sdb, or write to a file with --via-loopback.",
        )


def _check_encryption(target: DiskTarget) -> None:
    if target.loopback:
        raise UserError(
            "A file cannot be encrypted with tpm2-luks: only this machine's TPM would open it.",
            "Install to a disk of the machine that is to boot from it, or use --block-setup direct.",
        )
    encryption.check()


@contextmanager
def _volume(partition: Path, *, encrypted: bool) -> Iterator[encryption.Volume]:
    """The device for the root file system: the partition, or what an encrypted volume on it holds."""
    if encrypted:
        with encryption.made(partition) as volume:
            yield volume
    else:
        yield encryption.Volume(partition, ())


def _check_free(disk: Path, *, wipe: bool) -> None:
    users = device.in_use(disk) if device.is_block_device(disk) else _loops_of(disk)
    if users:
        raise UserError(
            f"{disk} is in use: {', '.join(users)}.", "Unmount it, or name another disk."
        )
    found = process.run(["wipefs", "--noheadings", "--output", "TYPE", str(disk)]).stdout.split()
    if found and not wipe:
        raise UserError(
            f"{disk} is not empty: it has {', '.join(found)}.",
            "Give --wipe to lose everything on it.",
        )


def _loops_of(file: Path) -> list[str]:
    listed = ["losetup", "--noheadings", "--output", "NAME", "--associated", str(file)]
    return process.run(listed).stdout.split()


def _partition(disk: Path, script: str) -> Sequence[device.Partition]:
    process.run(["wipefs", "--quiet", "--all", "--force", str(disk)])
    # Not --no-reread: it fails where somebody still uses the disk, which wants to be known now.
    process.run(
        ["sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", str(disk)],
        input_text=script,
        remedy="Is the disk large enough? It has to hold 1.2 GiB and the root.",
    )
    table = device.partition_table(disk)
    if table is None or len(table.partitions) != _ROOT:
        raise UserError(f"The partition table of {disk} cannot be read back.")
    return table.partitions


@contextmanager
def _kernel_nodes(disk: Path, partitions: Sequence[device.Partition]) -> Iterator[list[Path]]:
    """The devices of partitions, which the kernel or udev makes a moment after the table is read."""
    deadline = time.monotonic() + _NODE_SECONDS
    for each in partitions:
        while not device.is_block_device(each.node):
            if time.monotonic() > deadline:
                raise UserError(
                    f"The partition {each.node} of {disk} did not appear.",
                    "In a container, the host's devices are needed: -v /dev:/dev",
                )
            time.sleep(0.05)
    yield [each.node for each in partitions]


@contextmanager
def _loops(disk: Path, partitions: Sequence[device.Partition]) -> Iterator[list[Path]]:
    """A loop device for each partition of a file."""
    with ExitStack() as stack:
        nodes = []
        for each in partitions:
            place = (f"--offset={each.start * SECTOR}", f"--sizelimit={each.sectors * SECTOR}")
            attach = ["losetup", "--find", "--show", *place, str(disk)]
            loop = process.run(attach).stdout.strip()
            stack.callback(process.run, ["losetup", "--detach", loop], check=False)
            nodes.append(Path(loop))
        yield nodes
        os.sync()


def _make(node: Path, filesystem: str, label: str) -> str:
    uuid = str(uuid4())
    _package, options = _MKFS[filesystem]
    wanted = f"uuid={uuid}" if filesystem == "xfs" else uuid
    process.run([f"mkfs.{filesystem}", *options, wanted, "-L", label, str(node)])
    return uuid


@contextmanager
def _mounted(root: Path, boot: Path, filesystem: str) -> Iterator[Path]:
    """Mount root and /boot for this process alone."""
    enter_private_mounts()
    point = _MOUNTS / "rootfs"
    point.mkdir(parents=True, exist_ok=True)
    mounted: list[Path] = []
    try:
        process.run(["mount", "-t", filesystem, str(root), str(point)])
        mounted.append(point)
        (point / "boot").mkdir(mode=0o755)
        process.run(["mount", "-t", "ext4", str(boot), str(point / "boot")])
        mounted.append(point / "boot")
        yield point
    finally:
        # libostree's objects keep directories open until they are collected.
        gc.collect()
        os.sync()
        for each in reversed(mounted):
            if process.run(["umount", str(each)], check=False).status:
                process.run(["umount", "--lazy", str(each)], check=False)


def _empty_esp_directory(directory: Path) -> None:
    """Leave a mount point: what was in it is in the EFI system partition now."""
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
