"""QEMU's command line from a spec: pure, so that it can be read and tested without a machine."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.vm import lane
from bootc_build.vm.accel import Accelerator
from bootc_build.vm.block import Attachment, block_nodes
from bootc_build.vm.firmware import FirmwareFiles
from bootc_build.vm.spec import DiskBus, Firmware, MachineSpec

# An emulated machine on a busy computer takes many times as long to boot; a good boot on trial is not to be struck
# by its deadline. Guests that do not have the unit pass it over; those that take no credentials have no lane.
_PATIENCE = (
    ("systemd.unit-dropin.bootc-boot-deadline.timer", "[Timer]\nOnBootSec=\nOnBootSec=3h\n"),
)


@dataclass(frozen=True)
class MemoryFile:
    """A file that is the guest's RAM.

    Args:
        path: the file; as large as the RAM.
        shared: the guest's writes go to the file; otherwise it is mapped privately and never written to.
    """

    path: Path
    shared: bool


@dataclass(frozen=True)
class Runtime:
    """What only the run knows.

    Args:
        accelerator: how the guest's instructions are run.
        console_fd: connected socket that becomes the first serial port.
        monitor_fd: connected socket that becomes the QMP monitor.
        lane_fd: connected socket that becomes the virtio serial port; None for none.
        tpm_fd: connected socket that leads to the TPM; None for none.
        network_fds: connected socket for each private network.
        disks: one for each of the spec's.
        firmware: flash images, the variable store being this machine's own copy; None for BIOS.
        memory: the file that is its RAM; None for memory of QEMU's own.
        incoming: wait for a state to be loaded (QMP `migrate-incoming`) instead of starting.
    """

    accelerator: Accelerator
    console_fd: int
    monitor_fd: int
    lane_fd: int | None = None
    tpm_fd: int | None = None
    network_fds: Sequence[int] = ()
    disks: Sequence[Attachment] = ()
    firmware: FirmwareFiles | None = None
    memory: MemoryFile | None = None
    incoming: bool = False


def qemu_argv(spec: MachineSpec, runtime: Runtime) -> list[str]:
    """The command that runs the machine.

    The console and the monitor come as connected sockets: no socket file to wait for or to leave behind.
    """
    return [
        f"qemu-system-{spec.architecture}",
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-name", _escape(spec.name)),
        *_processor(spec, runtime.accelerator),
        *_memory(spec, runtime.memory),
        *(("-incoming", "defer") if runtime.incoming else ()),
        *("-action", f"reboot={'reset' if spec.may_reboot else 'shutdown'}"),
        *("-chardev", f"socket,id=console,fd={runtime.console_fd}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={runtime.monitor_fd}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-device", spec.platform.display),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng0"),
        # Tells a restored guest that it is another one now: its kernel mixes new randomness in at once.
        *(("-device", "vmgenid,guid=auto") if spec.platform.has_generation_id else ()),
        *_tpm(spec, runtime.tpm_fd),
        *_firmware(spec, runtime.firmware),
        *_disks(spec.disk_bus, runtime.disks),
        *_network(spec),
        *_private_networks(spec, runtime.network_fds),
        *_lane(runtime.lane_fd, runtime.accelerator),
        *_credentials(spec.credentials),
        *_kernel(spec),
        *spec.extra_args,
    ]


def _escape(value: object) -> str:
    # In QEMU's option lists a comma inside a value is written twice.
    return str(value).replace(",", ",,")


def _processor(spec: MachineSpec, accelerator: Accelerator) -> list[str]:
    smm = ",smm=on" if spec.firmware is Firmware.UEFI_SECURE and spec.is_pc else ""
    cpu = spec.cpu or ("host" if accelerator is Accelerator.KVM else spec.platform.cpu)
    return [
        *("-machine", f"{spec.board},accel={accelerator}{smm}"),
        *("-cpu", cpu, "-smp", str(spec.cpus), "-m", f"{spec.memory_mib}M"),
    ]


def _memory(spec: MachineSpec, memory: MemoryFile | None) -> list[str]:
    if memory is None:
        return []
    mode = "share=on" if memory.shared else "share=off,readonly=on,rom=off"
    backend = f"memory-backend-file,id=ram,size={spec.memory_mib}M,{mode}"
    return [
        *("-object", f"{backend},mem-path={_escape(memory.path)}"),
        *("-machine", "memory-backend=ram"),
    ]


def _firmware(spec: MachineSpec, files: FirmwareFiles | None) -> list[str]:
    if files is None:
        return []
    flash = "if=pflash,format=raw"
    args = [
        *("-drive", f"{flash},unit=0,readonly=on,file={_escape(files.code)}"),
        *("-drive", f"{flash},unit=1,file={_escape(files.variables)}"),
    ]
    if spec.firmware is Firmware.UEFI_SECURE and spec.is_pc:
        # Only the firmware, in system management mode, may write the keys.
        args += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return args


def _disks(bus: DiskBus, attachments: Sequence[Attachment]) -> list[str]:
    args = []
    for index, disk in enumerate(attachments):
        name = disk_name(index)
        nodes = block_nodes(name, disk)
        for node in nodes:
            args += ["-blockdev", json.dumps(node)]
        device = [
            *(bus.value, f"id={name}", f"drive={nodes[-1]['node-name']}"),
            f"bootindex={index + 1}",
        ]
        serial = disk.serial
        if bus is DiskBus.VIRTIO:
            device += [
                # Requests merged up to 1024 pieces are more than blklogwrites can note: the guest would see I/O errors.
                "request-merging=off",
                # Errors are the guest's to see: by default a write that finds no room would stop the machine.
                *("werror=report", "rerror=report"),
            ]
        else:
            serial = serial or name  # NVMe cannot do without one
        device += [f"serial={_escape(serial)}"] if serial else []
        args += ["-device", ",".join(device)]
    return args


def disk_name(index: int) -> str:
    """What the device and the lowest block node of a disk are called in QEMU."""
    return f"disk{index}"


def _network(spec: MachineSpec) -> list[str]:
    if not spec.network:
        return ["-nic", "none"]
    forwards = "".join(
        f",hostfwd=tcp:127.0.0.1:{forward.host_port}-:{forward.guest_port}"
        for forward in spec.forwards
    )
    options = "".join(f",{option}" for option in spec.network_options)
    # An empty romfile: without a network boot ROM the BIOS comes to the disk a second sooner.
    return [
        *("-netdev", f"user,id=net0{options}{forwards}"),
        *("-device", f"virtio-net-pci,netdev=net0,mac={spec.mac_address},romfile="),
    ]


def _private_networks(spec: MachineSpec, descriptors: Sequence[int]) -> list[str]:
    args = []
    for card, descriptor in enumerate(descriptors, 1):
        args += [
            *("-netdev", f"stream,id=net{card},addr.type=fd,addr.str={descriptor}"),
            *("-device", f"virtio-net-pci,netdev=net{card},mac={spec.mac(card)},romfile="),
        ]
    return args


def _tpm(spec: MachineSpec, descriptor: int | None) -> list[str]:
    if descriptor is None:
        return []
    return [
        *("-chardev", f"socket,id=tpm,fd={descriptor}"),
        *("-tpmdev", "emulator,id=tpm0,chardev=tpm"),
        *("-device", f"{spec.platform.tpm},tpmdev=tpm0"),
    ]


def _lane(descriptor: int | None, accelerator: Accelerator) -> list[str]:
    if descriptor is None:
        return []
    patience = _PATIENCE if accelerator is Accelerator.TCG else ()
    return [
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=lane,fd={descriptor}"),
        *("-device", f"virtserialport,chardev=lane,name={lane.PORT}"),
        *_credentials((*lane.lane_credentials(), *patience)),
    ]


def _credentials(credentials: Sequence[tuple[str, str]]) -> list[str]:
    args = []
    for name, value in credentials:
        encoded = base64.b64encode(value.encode()).decode()
        args += [
            "-smbios",
            f"type=11,value=io.systemd.credential.binary:{_escape(name)}={encoded}",
        ]
    return args


def _kernel(spec: MachineSpec) -> list[str]:
    if spec.kernel is None:
        return []
    initrd = ["-initrd", str(spec.kernel.initrd)] if spec.kernel.initrd else []
    return ["-kernel", str(spec.kernel.kernel), *initrd, "-append", spec.kernel.arguments]
