"""RAM snapshots: a machine that has booted, kept so that the next one need not.

A snapshot is the folder of one key (see :mod:`bootc_build.tools.shelf` for locks, bound and crashes):

- `memory`: the guest's RAM, sparse. It was the machine's memory file while it booted (`share=on`), and every
  restored machine maps it privately (`share=off`, read-only): pages are read when they are touched and copied
  when they are written, so a restore reads next to nothing and machines share what they do not change.
- `state`: what QEMU migrates apart from that memory (`x-ignore-shared`): processors, devices, video memory.
- `diskN.qcow2`: what the boot wrote to disk N. A restored machine writes to an overlay above it.
- `variables.fd`: the UEFI variable store, if the machine has one.
- `snapshot.json`: when and of what it was made, how the boot went, the other files' sizes and the digest of
  `state`; without it, or if it does not fit them, the folder is damaged and made anew.

The key is a digest of all that the booted system depends on: QEMU's version and arguments (without what
differs from run to run), accelerator, the disks' contents, the firmware's, and the shell that the harness left
running in the guest. Where something outside of these is part of the machine, `why_not` says so and it boots.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.tools.cache import cache_folder
from bootc_build.tools.shelf import Held, Shelf, chosen_bound
from bootc_build.tools.sizes import GIB
from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.argv import Runtime, qemu_argv
from bootc_build.vm.block import Attachment
from bootc_build.vm.content import content_digest, disk_digest
from bootc_build.vm.firmware import FirmwareFiles, find_uefi_firmware
from bootc_build.vm.spec import DirectKernel, DiskFormat, Firmware, MachineSpec

DEFAULT_BOUND = 8 * GIB
BOUND_VARIABLE = "BOOTC_BUILD_SNAPSHOT_CACHE"
# `file:` migration and memory files that are mapped from a read-only descriptor.
_OLDEST_QEMU = (8, 2)
_FORMAT = 1
_FACTS = "snapshot.json"
# What these files make the guest's shell do is frozen in the snapshot.
_SHELL_SOURCES = ("shell.py", "login.py", "guest_*.sh", "lane.py")


class DamagedSnapshotError(UserError):
    """A snapshot's files do not fit together, or no machine comes out of them."""


@dataclass(frozen=True)
class Facts:
    """What a snapshot knows of its making.

    Args:
        machine: the name in its spec.
        made: when, in seconds since 1970.
        boot_seconds: how long its boot took.
        settled: what the guest's `systemctl is-system-running` said at the end of the boot; empty where
            there is none.
        failed_units: units that had failed by then: they have failed in each restored machine too.
        lines: what the boot printed: seconds since power on, text.
        lane: its shell is on the virtio serial port; otherwise on the console.
    """

    machine: str
    made: float
    boot_seconds: float
    settled: str
    failed_units: tuple[str, ...]
    lines: tuple[tuple[float, str], ...]
    lane: bool = False


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that is in use: nobody removes it until it is closed; a context manager.

    Args:
        folder: where its files are.
        facts: what is known of its making.
    """

    folder: Path
    facts: Facts
    held: Held | None = None

    @classmethod
    def open(cls, held: Held) -> Self:
        """Read a snapshot and check what can be checked at once.

        Raises:
            DamagedSnapshotError: a file is missing, cut off or changed.
        """
        folder = held.path
        try:
            document = json.loads((folder / _FACTS).read_text())
            for name, size in document["files"].items():
                if (folder / name).stat().st_size != size:
                    raise DamagedSnapshotError(f"'{folder / name}' has not its {size} bytes.")
            if _digest(folder / "state") != document["state"]:
                raise DamagedSnapshotError(f"'{folder / 'state'}' has changed.")
            facts = Facts(
                **{
                    **document["facts"],
                    "failed_units": tuple(document["facts"]["failed_units"]),
                    "lines": tuple((at, text) for at, text in document["facts"]["lines"]),
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedSnapshotError(
                f"The snapshot in '{folder}' is damaged: {error!r}."
            ) from error
        return cls(folder, facts, held)

    @staticmethod
    def write(folder: Path, facts: Facts) -> None:
        """Complete a folder that has all other files already."""
        files = {path.name: path.stat().st_size for path in folder.iterdir()}
        document = {"facts": asdict(facts), "files": files, "state": _digest(folder / "state")}
        (folder / _FACTS).write_text(json.dumps(document))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.held is not None:
            self.held.close()

    @property
    def memory(self) -> Path:
        """The guest's RAM."""
        return self.folder / "memory"

    @property
    def state(self) -> Path:
        """The rest of the machine's state."""
        return self.folder / "state"

    @property
    def variables(self) -> Path:
        """The UEFI variable store; not there for BIOS machines."""
        return self.folder / "variables.fd"

    def disk(self, index: int) -> Path:
        """What the boot wrote to a disk."""
        return self.folder / f"disk{index}.qcow2"

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return max(0.0, time.time() - self.facts.made)


def snapshot_shelf(*, folder: Path | None = None, bound: int | None = None) -> Shelf:
    """Where snapshots are kept.

    Args:
        folder: the cache; by default the user's.
        bound: bytes; by default $BOOTC_BUILD_SNAPSHOT_CACHE, or 8 GiB.
    """
    return Shelf(
        (folder or cache_folder()) / "snapshots",
        chosen_bound(BOUND_VARIABLE, DEFAULT_BOUND) if bound is None else bound,
    )


def why_not(spec: MachineSpec, version: Sequence[int]) -> str | None:
    """Why a machine cannot be kept as a snapshot, in words; None if it can.

    Args:
        spec: the machine.
        version: QEMU's.
    """
    if any(disk.persist for disk in spec.disks):
        return "what it writes is kept on its disk"
    if any(disk.filters for disk in spec.disks):
        return "something stands between it and its disk"
    if spec.tpm:
        return "its TPM is a machine of its own"
    if spec.extra_args:
        return "it has QEMU arguments of its own"
    if tuple(version[:2]) < _OLDEST_QEMU:
        return f"QEMU {'.'.join(map(str, version))} is older than 8.2"
    return None


def snapshot_key(spec: MachineSpec, acceleration: Acceleration) -> str:
    """The name of a machine's snapshot: equal for machines of which one can stand for the other.

    Raises:
        UserError: a disk cannot be read, or firmware is missing.
    """
    kernel = spec.kernel and DirectKernel(
        Path(content_digest(spec.kernel.kernel)),
        Path(content_digest(spec.kernel.initrd)) if spec.kernel.initrd else None,
        spec.kernel.arguments,
    )
    facts: list[Any] = [
        _FORMAT,
        run([f"qemu-system-{spec.architecture}", "--version"], timeout=30).stdout,
        # Ports of the host are each run's own, and QEMU keeps nothing of them.
        qemu_argv(replace(spec, forwards=(), kernel=kernel), _stand_in(spec, acceleration)),
        [disk_digest(disk) for disk in spec.disks],
        [content_digest(path) for path in _firmware_files(spec)],
        asdict(spec.login) if spec.login else None,
        _shell_digest(),
    ]
    if acceleration.accelerator is Accelerator.KVM:
        facts.append(_processor())
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _stand_in(spec: MachineSpec, acceleration: Acceleration) -> Runtime:
    """A runtime in which nothing differs from run to run."""
    firmware = None
    if spec.firmware is not Firmware.BIOS:
        firmware = FirmwareFiles(Path("code"), Path("variables"))
    return Runtime(
        accelerator=acceleration.accelerator,
        console_fd=0,
        monitor_fd=0,
        lane_fd=0 if spec.lane else None,
        network_fds=[0 for _ in spec.private_networks],
        disks=[
            Attachment(Path(str(index)), DiskFormat.QCOW2, durable=False, serial=disk.serial)
            for index, disk in enumerate(spec.disks)
        ],
        firmware=firmware,
    )


def _firmware_files(spec: MachineSpec) -> list[Path]:
    if spec.firmware is Firmware.BIOS:
        return []
    found = find_uefi_firmware(
        spec.firmware, architecture=spec.architecture, machine_type=spec.board
    )
    return [found.code, found.variables]


def _shell_digest() -> str:
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for pattern in _SHELL_SOURCES:
        for path in sorted(here.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """What a guest under KVM sees of the host's processor."""
    wanted = ("model name", "flags", "microcode")
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return [line for line in lines if line.startswith(wanted)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
