"""One run of QEMU: started, watched, ended; it dies with its parent and leaves no file, socket or port behind."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from bootc_build.onhost.process import find_program, run, running
from bootc_build.vm.accel import Acceleration
from bootc_build.vm.argv import MemoryFile, Runtime, disk_name, qemu_argv
from bootc_build.vm.block import Attachment, DiskFilter, block_nodes
from bootc_build.vm.errors import MachineDiedError, MachineError
from bootc_build.vm.firmware import FirmwareFiles, find_uefi_firmware
from bootc_build.vm.qmp import Monitor
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.room import full_file_system
from bootc_build.vm.snapshot import Snapshot
from bootc_build.vm.spec import Disk, DiskFormat, Firmware, MachineSpec
from bootc_build.vm.tpm import running_tpm
from bootc_build.vm.waiting import wait_until

_START_SECONDS = 60.0
_QUIT_SECONDS = 20.0
_MIGRATION_SECONDS = 300.0
# What a program does that finds itself broken.
_FAULTS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


class QemuProcess:
    """A running QEMU; a context manager.

    Args:
        spec: what to run.
        acceleration: how.
        folder: private folder of the machine: overlays and the variable store stay there from run to run.
        record: gets what passes the monitor.
        memory: a file to be its RAM.
        snapshot: start stopped, in this state; `resume` lets it run.

    Attributes:
        console: the host's end of the first serial port.
        lane: the host's end of the virtio serial port.
        monitor: QMP.
        disks: the files that the guest writes to.
    """

    def __init__(
        self,
        spec: MachineSpec,
        acceleration: Acceleration,
        folder: Path,
        record: MachineRecord | None = None,
        *,
        memory: MemoryFile | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._spec = spec
        self._acceleration = acceleration
        self._folder = folder
        self._snapshot = snapshot
        self._memory = MemoryFile(snapshot.memory, shared=False) if snapshot else memory
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.disks: list[Attachment] = []
        self._top_nodes: list[list[str]] = []
        self._put_filters: list[DiskFilter] = []
        self.console, self._guest_console = socket.socketpair()
        self.lane, self._guest_lane = socket.socketpair()
        monitor, self._guest_monitor = socket.socketpair()
        self.monitor = Monitor(monitor, record)
        self._guest_ends = [self._guest_console, self._guest_monitor, self._guest_lane]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.console)
            stack.enter_context(self.monitor)
            stack.enter_context(self.lane)
            for end in self._guest_ends:
                stack.enter_context(end)
            networks = self._spec.private_networks
            cables = [stack.enter_context(network.plug_in()) for network in networks]
            tpm = running_tpm(self._folder, stack) if self._spec.tpm else None
            self._guest_ends += [*cables, *([tpm] if tpm else [])]
            errors = stack.enter_context(self._errors_path.open("wb"))
            self.disks = attach_disks(self._spec, self._folder, self._snapshot)
            self._top_nodes = [
                [block_nodes(disk_name(index), disk)[-1]["node-name"]]
                for index, disk in enumerate(self.disks)
            ]
            runtime = Runtime(
                accelerator=self._acceleration.accelerator,
                console_fd=self._guest_console.fileno(),
                monitor_fd=self._guest_monitor.fileno(),
                lane_fd=self._guest_lane.fileno() if self._spec.lane else None,
                tpm_fd=tpm.fileno() if tpm else None,
                network_fds=[cable.fileno() for cable in cables],
                disks=self.disks,
                firmware=copy_firmware(self._spec, self._folder, self._snapshot),
                memory=self._memory,
                incoming=self._snapshot is not None,
            )
            self._process = stack.enter_context(
                running(
                    qemu_argv(self._spec, runtime),
                    stdout=errors,
                    stderr=errors,
                    pass_fds=[end.fileno() for end in self._guest_ends],
                )
            )
            # With the guest's ends closed here, the end of QEMU is the end of file on all sockets.
            for end in self._guest_ends:
                end.close()
            self._connect()
            if self._snapshot is not None:
                self._load(self._snapshot.state)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.quit()
        self._stack.close()

    @property
    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """QEMU's process id, also after its end."""
        assert self._process is not None  # noqa: S101 - entered
        return self._process.pid

    def wait_for_end(self, seconds: float) -> bool:
        """Whether QEMU ended within so many seconds."""
        assert self._process is not None  # noqa: S101 - entered
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def quit(self) -> None:
        """End QEMU at once: to the guest it is a power cut."""
        if not self.alive:
            return
        with suppress(MachineError):
            self.monitor.execute("quit", seconds=_QUIT_SECONDS)
            self.wait_for_end(_QUIT_SECONDS)

    def save_state(self, path: Path) -> None:
        """Stop the guest for good and write its state without its memory file.

        Raises:
            MachineError: QEMU could not.
        """
        self.monitor.execute("stop")
        self.monitor.execute("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
        self.monitor.execute("migrate", uri=f"file:{path}")
        self._await_migration()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The guest stands still, and what it wrote is in its disks' files."""
        self.monitor.execute("stop")
        try:
            yield
        finally:
            if self.alive:
                self.monitor.execute("cont")

    def resume(self) -> None:
        """Let a guest run that was started from a snapshot."""
        self.monitor.execute("cont")

    def set_reboot_allowed(self, *, allowed: bool) -> None:
        """Whether a guest that restarts goes on running or ends QEMU."""
        self.monitor.execute("set-action", reboot="reset" if allowed else "shutdown")

    def put_filter(self, index: int, disk_filter: DiskFilter, name: str) -> None:
        """Put something between the running guest and a disk, on top of what is there.

        Args:
            index: of the disk.
            disk_filter: it.
            name: for its block nodes; none of this machine's has it.
        """
        disk_filter.prepare()
        for node in disk_filter.nodes(name, self._top_nodes[index][-1]):
            self.monitor.execute("blockdev-add", **node)
        self._top_nodes[index].append(name)
        self._put_filters.append(disk_filter)
        self._stand_on(index)

    def remove_filter(self, index: int, disk_filter: DiskFilter) -> None:
        """Take away what was put there last; what it holds is on the host's disk then."""
        name = self._top_nodes[index].pop()
        self._stand_on(index)
        for node in reversed(disk_filter.nodes(name, self._top_nodes[index][-1])):
            self.monitor.execute("blockdev-del", node_name=node["node-name"])
        self._put_filters.remove(disk_filter)

    @property
    def filters(self) -> list[DiskFilter]:
        """What stands between the guest and its disks now."""
        return [each for disk in self.disks for each in disk.filters] + self._put_filters

    def _stand_on(self, index: int) -> None:
        device = f"/machine/peripheral/{disk_name(index)}"
        top = self._top_nodes[index][-1]
        self.monitor.execute("qom-set", path=device, property="drive", value=top)

    def why_it_ended(self) -> str:
        """One sentence on the end of QEMU, for an error."""
        self.wait_for_end(_QUIT_SECONDS)
        reason = self.monitor.shutdown_reason()
        known = {
            "guest-shutdown": "The guest powered itself off.",
            "guest-reset": "The guest restarted although no restart was expected.",
            "guest-panic": "The guest's kernel panicked.",
        }
        if reason in known:
            return known[reason]
        status = self._process.returncode if self._process is not None else None
        how = f"was killed by signal {-status}" if status and status < 0 else f"ended with {status}"
        said = self._errors_path.read_text(errors="backslashreplace").strip()
        room = self._no_room()
        return f"QEMU {how}" + (f": {said}" if said else ".") + (f" {room}" if room else "")

    @property
    def has_crashed(self) -> bool:
        """Whether QEMU ended by a fault of its own; asked after its end."""
        status = self._process.returncode if self._process is not None else None
        return status is not None and -status in _FAULTS and self._no_room() is None

    def _no_room(self) -> str | None:
        """Whether it ended because its memory file could not grow, in words."""
        if self._memory is None or self._process is None:
            return None
        # A page of a mapped file that finds no block on the disk is a bus error.
        if self._process.returncode != -signal.SIGBUS:
            return None
        return full_file_system([self._memory.path])

    @property
    def _errors_path(self) -> Path:
        return self._folder / "qemu.stderr"

    def _load(self, state: Path) -> None:
        self.monitor.execute("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
        self.monitor.execute("migrate-incoming", uri=f"file:{state}")
        self._await_migration()

    def _await_migration(self) -> None:
        answer: dict[str, str] = {}

        def is_over() -> bool:
            answer.update(self.monitor.execute("query-migrate"))
            return answer.get("status") in ("completed", "failed", "cancelled")

        over = wait_until(is_over, seconds=_MIGRATION_SECONDS, first_interval=0.01)
        if not over or answer["status"] != "completed":
            why = answer.get("error-desc") or answer.get("status", "it did not end")
            raise MachineError(
                f"The state of the machine '{self._spec.name}' could not be moved: {why}."
            )

    def _connect(self) -> None:
        try:
            self.monitor.connect(_START_SECONDS)
        except MachineError as error:
            if self.wait_for_end(1.0):
                raise MachineDiedError(
                    f"The machine '{self._spec.name}' did not start. {self.why_it_ended()}"
                ) from error
            raise


def attach_disks(
    spec: MachineSpec, folder: Path, snapshot: Snapshot | None = None
) -> list[Attachment]:
    """The files that the guest writes to; overlays are made in the folder where they are not there yet.

    Args:
        spec: of the machine.
        folder: the machine's own.
        snapshot: what it starts from; its disks lie between the spec's and the overlays.

    Raises:
        MissingProgramError, CommandError: by qemu-img.
    """
    attachments = []
    for index, disk in enumerate(spec.disks):
        for each in disk.filters:
            each.prepare()
        if disk.persist:
            file, its_format = disk.path, disk.format
        else:
            file, its_format = _overlay(index, disk, folder, snapshot), DiskFormat.QCOW2
        attachments.append(
            Attachment(file, its_format, disk.persist, filters=disk.filters, serial=disk.serial)
        )
    return attachments


def _overlay(index: int, disk: Disk, folder: Path, snapshot: Snapshot | None) -> Path:
    overlay = folder / f"disk{index}.qcow2"
    if not overlay.exists():
        find_program("qemu-img", "Install it with: apt-get install qemu-utils")
        below, its_format = str(disk.path), disk.format
        if snapshot is not None:
            below, its_format = _chain(snapshot.disk(index), disk), DiskFormat.QCOW2
        run(
            [
                *("qemu-img", "create", "-q", "-f", "qcow2"),
                *("-b", below, "-F", its_format, str(overlay)),
            ],
            timeout=60,
        )
    return overlay


def _chain(upper: Path, lower: Disk) -> str:
    """A snapshot's disk above the spec's, which may have moved since the snapshot was made."""
    chain = {
        "driver": DiskFormat.QCOW2,
        "file": {"driver": "file", "filename": str(upper)},
        "backing": {
            "driver": lower.format,
            "file": {"driver": "file", "filename": str(lower.path)},
        },
    }
    return f"json:{json.dumps(chain)}"


def copy_firmware(
    spec: MachineSpec, folder: Path, snapshot: Snapshot | None = None
) -> FirmwareFiles | None:
    """UEFI firmware with this machine's own variable store, copied on its first start; None for BIOS.

    Raises:
        UserError: no such firmware is installed.
    """
    if spec.firmware is Firmware.BIOS:
        return None
    found = find_uefi_firmware(
        spec.firmware, architecture=spec.architecture, machine_type=spec.board
    )
    own = folder / "variables.fd"
    if not own.exists():
        shutil.copyfile(snapshot.variables if snapshot else found.variables, own)
    return FirmwareFiles(found.code, own)
