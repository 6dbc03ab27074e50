"""What a virtual machine is made of: a frozen record, decided before anything is started."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.vm.platform import Platform, platform_of

if TYPE_CHECKING:
    from bootc_build.vm.block import DiskFilter
    from bootc_build.vm.network import PrivateNetwork


class Firmware(StrEnum):
    """What starts the boot loader."""

    BIOS = "bios"
    UEFI = "uefi"
    UEFI_SECURE = "uefi-secure"


class DiskFormat(StrEnum):
    """How the bytes of a disk lie in its file."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vpc"


_MAGIC = {b"QFI\xfb": DiskFormat.QCOW2, b"KDMV": DiskFormat.VMDK}
_VHD_MAGIC = b"conectix"  # where the last 512 bytes begin; the disk itself comes before them


class DiskBus(StrEnum):
    """How the machine's disks are attached; the value is QEMU's device."""

    VIRTIO = "virtio-blk-pci"
    NVME = "nvme"


@dataclass(frozen=True)
class Disk:
    """A disk of the machine.

    Args:
        path: its file.
        format: of the file.
        persist: the guest writes to the file itself; otherwise to an overlay that is thrown away.
        filters: what stands between the file and the guest, the lowest first: a log of all writes, errors
            (bootc_build.vm.block).
        serial: the serial number that the guest sees.
    """

    path: Path
    format: DiskFormat
    persist: bool = False
    filters: tuple["DiskFilter", ...] = ()
    serial: str | None = None

    @classmethod
    def open(cls, path: Path, *, persist: bool = False) -> "Disk":
        """The disk in a file, its format read from its first and last bytes.

        Raises:
            UserError: there is no such file, or it cannot be read.
            UsageError: it cannot be written to.
        """
        try:
            found = _format(path)
        except OSError as error:
            raise UserError(
                f"The disk '{path}' cannot be read: {error.strerror}.",
                "Make one with: bootc-build disk IMAGE",
            ) from error
        if persist and found is DiskFormat.VMDK:
            raise UsageError(
                f"The disk '{path}' is compressed as a whole: nothing can be kept on it.",
                "Convert it with: qemu-img convert -O qcow2",
            )
        return cls(path.resolve(), found, persist)


def _format(path: Path) -> DiskFormat:
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(max(0, file.seek(0, 2) - 512))
        last = file.read(len(_VHD_MAGIC))
    return DiskFormat.VHD if last == _VHD_MAGIC else _MAGIC.get(first, DiskFormat.RAW)


@dataclass(frozen=True)
class Forward:
    """A TCP port of the host's loopback address that leads to one of the guest.

    Args:
        guest_port: where the guest listens.
        host_port: where the host listens; 0 takes a free one.
    """

    guest_port: int
    host_port: int = 0


@dataclass(frozen=True)
class DirectKernel:
    """A kernel that QEMU starts by itself, without firmware's boot order or a boot loader."""

    kernel: Path
    initrd: Path | None = None
    arguments: str = "console=ttyS0"


@dataclass(frozen=True)
class Login:
    """An account to log in with on the serial console, for guests that take no credentials."""

    user: str
    password: str


# Debian 13 and newer (systemd 257, util-linux 2.41): a root shell on the serial line of an unmodified image.
ROOT_SHELL_CREDENTIALS = (("agetty.autologin", "root"), ("login.noauth", "yes"))


@dataclass(frozen=True)
class MachineSpec:
    """One virtual machine.

    Args:
        disks: in boot order.
        name: names it in messages and determines its MAC address.
        memory_mib: RAM in MiB.
        cpus: virtual processors. One by default: under TCG it costs a boot a tenth less processor time than two, and
            QEMU 10 has races between emulated processors that end it now and then.
        firmware: BIOS, UEFI, or UEFI with Secure Boot and Microsoft's keys.
        machine_type: QEMU's `-machine`; by default the platform's.
        cpu: QEMU's `-cpu`; by default the host's under KVM and the platform's (`qemu64`) under TCG.
        network: a network card on QEMU's user-mode network, where the host is 10.0.2.2.
        network_options: more options of that network (QEMU's `-netdev user`), each like "net=10.1.0.0/16".
        forwards: ports of the host that lead into the guest.
        disk_bus: how the disks are attached.
        private_networks: one more network card on each (bootc_build.vm.network), without an address.
        tpm: a TPM 2.0 (by swtpm); what it holds stays for as long as the machine.
        credentials: system credentials (name, value), handed over through SMBIOS.
        lane: commands go over a virtio serial port in guests whose systemd can start a shell there by a
            credential (256 and newer); they go over the serial console in others, or without it.
        login: an account for guests that take no credentials.
        kernel: a kernel to boot directly.
        may_reboot: the guest may restart itself; otherwise a restart ends the machine, so that a
            panicking guest does not go round for ever.
        extra_args: more arguments for QEMU, last.
        architecture: QEMU's name of it; what follows from it is its `platform`.
    """

    disks: tuple[Disk, ...] = ()
    name: str = "machine"
    memory_mib: int = 1024
    cpus: int = 1
    firmware: Firmware = Firmware.BIOS
    machine_type: str | None = None
    cpu: str | None = None
    network: bool = True
    network_options: tuple[str, ...] = ()
    forwards: tuple[Forward, ...] = ()
    disk_bus: DiskBus = DiskBus.VIRTIO
    private_networks: tuple["PrivateNetwork", ...] = ()
    tpm: bool = False
    credentials: tuple[tuple[str, str], ...] = ROOT_SHELL_CREDENTIALS
    lane: bool = True
    login: Login | None = None
    kernel: DirectKernel | None = None
    may_reboot: bool = False
    extra_args: tuple[str, ...] = ()
    architecture: str = field(default="x86_64")

    def __post_init__(self) -> None:
        if self.memory_mib < 1:
            raise UsageError(f"{self.memory_mib} MiB is no memory size.", "Give 512 or more.")
        if self.cpus < 1:
            raise UsageError(f"{self.cpus} is no number of processors.", "Give 1 or more.")
        if self.firmware is Firmware.BIOS and not self.platform.has_bios:
            raise UsageError(
                f"Machines of the architecture {self.architecture} have no BIOS.",
                "Use --firmware uefi.",
            )

    @property
    def platform(self) -> Platform:
        """What follows from the architecture."""
        return platform_of(self.architecture)

    @property
    def board(self) -> str:
        """QEMU's `-machine`."""
        return self.machine_type or self.platform.machine_type

    @property
    def is_pc(self) -> bool:
        """Whether it is a PC, with what only PCs have: BIOS, system management mode, VGA."""
        return self.architecture == "x86_64"

    @property
    def mac_address(self) -> str:
        """The address of the first network card."""
        return self.mac(0)

    def mac(self, card: int) -> str:
        """A network card's address: QEMU's prefix and three bytes that follow from name and number.

        Args:
            card: 0 is on the user-mode network, 1 on the first private one, and so on.
        """
        digest = hashlib.sha256(f"{self.name}#{card}".encode()).digest()
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
