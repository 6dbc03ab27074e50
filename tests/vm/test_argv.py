"""QEMU's command line, read without a machine."""

import base64
import errno
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.vm.accel import Accelerator
from bootc_build.vm.argv import MemoryFile, Runtime, qemu_argv
from bootc_build.vm.block import Attachment, IoError, IoErrors, Operation, WriteLog
from bootc_build.vm.firmware import FirmwareFiles
from bootc_build.vm.spec import (
    DirectKernel,
    Disk,
    DiskBus,
    DiskFormat,
    Firmware,
    Forward,
    MachineSpec,
)

_TCG = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8)
_FLASH = FirmwareFiles(Path("/fw/code.fd"), Path("/run/vm/variables.fd"))


def _values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def _only(argv: list[str], option: str) -> str:
    [value] = _values(argv, option)
    return value


def _blocks(*disks: Attachment) -> list[dict[str, Any]]:
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, disks=disks)
    return [json.loads(one) for one in _values(qemu_argv(MachineSpec(), runtime), "-blockdev")]


def test_a_machine_without_a_wish_has_console_monitor_entropy_and_network() -> None:
    argv = qemu_argv(MachineSpec(), _TCG)
    assert argv[0] == "qemu-system-x86_64"
    assert _values(argv, "-chardev") == ["socket,id=console,fd=7", "socket,id=monitor,fd=8"]
    assert _only(argv, "-serial") == "chardev:console"
    assert _only(argv, "-mon") == "chardev=monitor,mode=control"
    assert "virtio-rng-pci,rng=rng0" in _values(argv, "-device")
    assert _only(argv, "-netdev") == "user,id=net0"


def test_a_restart_ends_a_machine_that_must_not_restart() -> None:
    assert _only(qemu_argv(MachineSpec(), _TCG), "-action") == "reboot=shutdown"
    assert _only(qemu_argv(MachineSpec(may_reboot=True), _TCG), "-action") == "reboot=reset"


@pytest.mark.parametrize(
    ("accelerator", "cpu"), [(Accelerator.TCG, "qemu64"), (Accelerator.KVM, "host")]
)
def test_the_processor_is_the_accelerators_unless_one_is_named(
    accelerator: Accelerator, cpu: str
) -> None:
    runtime = Runtime(accelerator=accelerator, console_fd=7, monitor_fd=8)
    assert _only(qemu_argv(MachineSpec(), runtime), "-cpu") == cpu
    assert _only(qemu_argv(MachineSpec(cpu="max"), runtime), "-cpu") == "max"
    assert _only(qemu_argv(MachineSpec(), runtime), "-machine") == f"q35,accel={accelerator}"


def test_commas_in_paths_and_names_stay_in_their_value() -> None:
    disk = Attachment(Path("/a,b/disk.qcow2"), DiskFormat.QCOW2, durable=False)
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, disks=[disk])
    argv = qemu_argv(MachineSpec(name="x,y"), runtime)
    assert json.loads(_only(argv, "-blockdev"))["file"]["filename"] == "/a,b/disk.qcow2"
    assert _only(argv, "-name") == "x,,y"


@pytest.mark.parametrize("durable", [False, True])
def test_only_kept_disks_pay_for_durability(durable: bool) -> None:  # noqa: FBT001 - a parameter
    [node] = _blocks(Attachment(Path("/d"), DiskFormat.RAW, durable=durable))
    for each in (node, node["file"]):
        assert each["cache"]["no-flush"] is not durable


def test_filters_stand_between_a_disk_and_the_guest_in_their_order() -> None:
    full = IoErrors((IoError(Operation.WRITE, errno.ENOSPC, sector=8, once=True),))
    disk = Attachment(
        *(Path("/d"), DiskFormat.QCOW2),
        durable=False,
        filters=(WriteLog(Path("/log"), append=True), full),
        serial="data,1",
    )
    plain = Attachment(Path("/e"), DiskFormat.RAW, durable=False)
    image, log, errors, other = _blocks(disk, plain)
    assert (image["driver"], log["file"]) == ("qcow2", image["node-name"])
    assert (log["driver"], log["log"]["filename"], log["log-append"]) == (
        *("blklogwrites", "/log"),
        True,
    )
    assert (errors["driver"], errors["image"]) == ("blkdebug", log["node-name"])
    assert errors["inject-error"] == [
        {"event": "none", "iotype": "write", "errno": errno.ENOSPC, "once": True, "sector": 8}
    ]
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, disks=(disk, plain))
    devices = [
        device
        for device in _values(qemu_argv(MachineSpec(), runtime), "-device")
        if device.startswith("virtio-blk-pci,")
    ]
    for device, node, index in ((devices[0], errors, 1), (devices[1], other, 2)):
        assert f"drive={node['node-name']},bootindex={index}" in device
    assert ",serial=data,,1" in devices[0]
    assert "serial=" not in devices[1]


def test_firmware_is_read_only_and_its_variables_are_not() -> None:
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, firmware=_FLASH)
    argv = qemu_argv(MachineSpec(firmware=Firmware.UEFI), runtime)
    code, variables = _values(argv, "-drive")
    assert "unit=0,readonly=on,file=/fw/code.fd" in code
    assert "unit=1,file=/run/vm/variables.fd" in variables
    assert "readonly" not in variables
    assert "smm=on" not in _only(argv, "-machine")


def test_secure_boot_keeps_the_guest_from_writing_the_keys() -> None:
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, firmware=_FLASH)
    argv = qemu_argv(MachineSpec(firmware=Firmware.UEFI_SECURE), runtime)
    assert _only(argv, "-global") == "driver=cfi.pflash01,property=secure,value=on"
    assert "smm=on" in _only(argv, "-machine")


def test_credentials_of_any_text_reach_the_guest() -> None:
    argv = qemu_argv(MachineSpec(credentials=(("motd", "a,b\nc=größer"),)), _TCG)
    value = _only(argv, "-smbios")
    assert value.startswith("type=11,value=io.systemd.credential.binary:motd=")
    assert base64.b64decode(value.rpartition("motd=")[2]).decode() == "a,b\nc=größer"


def test_ports_are_forwarded_from_loopback_only() -> None:
    spec = MachineSpec(forwards=(Forward(22, 2222), Forward(80)))
    assert _only(qemu_argv(spec, _TCG), "-netdev") == (
        "user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:0-:80"
    )


def test_a_kernel_can_be_started_directly() -> None:
    kernel = DirectKernel(Path("/k"), Path("/i"), "console=ttyS0 quiet")
    argv = qemu_argv(MachineSpec(kernel=kernel), _TCG)
    assert (_only(argv, "-kernel"), _only(argv, "-initrd")) == ("/k", "/i")
    assert _only(argv, "-append") == "console=ttyS0 quiet"


def test_extra_arguments_come_last() -> None:
    assert qemu_argv(MachineSpec(extra_args=("-s", "-S")), _TCG)[-2:] == ["-s", "-S"]


def test_the_address_follows_from_the_name_and_is_locally_administered() -> None:
    one, same, other = (MachineSpec(name=name).mac_address for name in ("a", "a", "b"))
    assert one == same != other
    assert one.startswith("52:54:00:")


@pytest.mark.parametrize("wrong", [{"memory_mib": 0}, {"cpus": 0}])
def test_a_machine_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        MachineSpec(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"QFI\xfb" + b"\0" * 60, DiskFormat.QCOW2),
        (b"KDMV" + b"\0" * 60, DiskFormat.VMDK),
        (b"\0" * 64 + b"conectix" + b"\0" * 504, DiskFormat.VHD),
        (b"\0" * 64, DiskFormat.RAW),
        (b"", DiskFormat.RAW),
    ],
)
def test_the_format_of_a_disk_is_read_from_it(
    content: bytes, expected: DiskFormat, tmp_path: Path
) -> None:
    (tmp_path / "disk").write_bytes(content)
    assert Disk.open(tmp_path / "disk").format is expected


def test_nothing_can_be_kept_on_a_compressed_vmdk(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"KDMV")
    with pytest.raises(UsageError, match="nothing can be kept"):
        Disk.open(tmp_path / "disk", persist=True)


def test_disks_may_be_nvme() -> None:
    disk = Attachment(Path("/d"), DiskFormat.RAW, durable=False)
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, disks=[disk])
    argv = qemu_argv(MachineSpec(disk_bus=DiskBus.NVME), runtime)
    [device] = [one for one in _values(argv, "-device") if one.startswith("nvme,")]
    assert "serial=disk0" in device.split(",")  # QEMU refuses one without
    assert "error=" not in device  # and refuses these
    assert "merging" not in device


def test_the_network_may_have_options_of_its_own() -> None:
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8)
    spec = MachineSpec(network_options=("net=10.1.0.0/16", "host=10.1.0.2"))
    assert _only(qemu_argv(spec, runtime), "-netdev") == (
        "user,id=net0,net=10.1.0.0/16,host=10.1.0.2"
    )


def test_a_disk_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.qcow2"):
        Disk.open(tmp_path / "nowhere.qcow2")


@pytest.mark.parametrize(
    ("shared", "mode"), [(True, "share=on"), (False, "share=off,readonly=on,rom=off")]
)
def test_a_memory_file_is_the_guests_ram(*, shared: bool, mode: str) -> None:
    runtime = Runtime(Accelerator.TCG, 7, 8, memory=MemoryFile(Path("/a,b/memory"), shared=shared))
    argv = qemu_argv(MachineSpec(memory_mib=512), runtime)
    backend = f"memory-backend-file,id=ram,size=512M,{mode},mem-path=/a,,b/memory"
    assert backend in _values(argv, "-object")
    assert "memory-backend=ram" in _values(argv, "-machine")


def test_a_machine_can_wait_for_its_state() -> None:
    assert (
        _only(qemu_argv(MachineSpec(), Runtime(Accelerator.TCG, 7, 8, incoming=True)), "-incoming")
        == "defer"
    )
    assert "-incoming" not in qemu_argv(MachineSpec(), _TCG)


def test_an_arm_machine_has_nothing_that_only_a_pc_has() -> None:
    runtime = Runtime(accelerator=Accelerator.TCG, console_fd=7, monitor_fd=8, firmware=_FLASH)
    spec = MachineSpec(architecture="aarch64", machine_type="virt", firmware=Firmware.UEFI_SECURE)
    argv = qemu_argv(spec, runtime)
    assert argv[0] == "qemu-system-aarch64"
    assert _only(argv, "-machine") == "virt,accel=tcg"
    assert _only(argv, "-cpu") == "cortex-a57"
    assert not {"VGA", "vmgenid,guid=auto"} & set(argv)
    assert "-global" not in argv


def test_an_arm_machine_with_bios_is_refused() -> None:
    with pytest.raises(UsageError, match="have no BIOS"):
        MachineSpec(architecture="aarch64", machine_type="virt")


def test_the_lane_is_a_port_and_the_credentials_that_start_its_other_end() -> None:
    runtime = Runtime(Accelerator.TCG, 7, 8, lane_fd=9)
    argv = qemu_argv(MachineSpec(credentials=()), runtime)
    assert "socket,id=lane,fd=9" in _values(argv, "-chardev")
    assert "virtserialport,chardev=lane,name=bootc-build.lane" in _values(argv, "-device")
    assert any(
        "systemd.extra-unit.bootc-build-lane.service=" in v for v in _values(argv, "-smbios")
    )
    assert not _values(qemu_argv(MachineSpec(credentials=()), _TCG), "-smbios")


@pytest.mark.parametrize("accelerator", list(Accelerator))
def test_only_an_emulated_guest_may_boot_for_hours(accelerator: Accelerator) -> None:
    argv = qemu_argv(MachineSpec(), Runtime(accelerator, 7, 8, lane_fd=9))
    patient = any("bootc-boot-deadline.timer=" in each for each in _values(argv, "-smbios"))
    assert patient is (accelerator is Accelerator.TCG)


def test_each_private_network_is_a_card_with_an_address_of_its_own() -> None:
    runtime = Runtime(Accelerator.TCG, 7, 8, network_fds=(10, 11))
    spec = MachineSpec(name="a")
    argv = qemu_argv(spec, runtime)
    assert _values(argv, "-netdev")[1:] == [
        "stream,id=net1,addr.type=fd,addr.str=10",
        "stream,id=net2,addr.type=fd,addr.str=11",
    ]
    assert len({spec.mac(card) for card in range(3)}) == 3
    for card in (1, 2):
        wanted = f"virtio-net-pci,netdev=net{card},mac={spec.mac(card)},romfile="
        assert wanted in _values(argv, "-device")


@pytest.mark.parametrize(
    ("architecture", "board", "cpu", "tpm"),
    [
        ("x86_64", "q35", "qemu64", "tpm-crb,tpmdev=tpm0"),
        ("aarch64", "virt", "cortex-a57", "tpm-tis-device,tpmdev=tpm0"),
    ],
)
def test_the_platform_follows_from_the_architecture(
    architecture: str, board: str, cpu: str, tpm: str
) -> None:
    spec = MachineSpec(architecture=architecture, firmware=Firmware.UEFI)
    argv = qemu_argv(spec, Runtime(Accelerator.TCG, 7, 8, tpm_fd=9))
    assert argv[0] == f"qemu-system-{architecture}"
    assert _only(argv, "-machine") == f"{board},accel=tcg"
    assert _only(argv, "-cpu") == cpu
    assert "socket,id=tpm,fd=9" in _values(argv, "-chardev")
    assert tpm in _values(argv, "-device")
    assert ("vmgenid,guid=auto" in _values(argv, "-device")) == (architecture == "x86_64")
