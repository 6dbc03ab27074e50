"""A root that only the machine's TPM opens: installed by the image itself, booted, changed."""

from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.registry import GUEST_NAME, Registry
from bootc_build.vm.spec import MachineSpec
from test_vms.example_os import FOLLOWS, Versions
from test_vms.os_images import PROJECT, build

_SECOND = "/dev/disk/by-id/virtio-second"


@pytest.fixture(scope="module")
def encrypting(versions: Versions) -> str:
    """Version 1 with what encryption takes."""
    return build(
        "encrypting",
        PROJECT / "test_vms/encrypted/Containerfile",
        arguments=[("EXAMPLE", versions.one)],
    )


def _with_second_disk(folder: Path) -> MachineSpec:
    disk = folder / "second.raw"
    with disk.open("xb") as file:
        file.truncate(6 * 2**30)
    return MachineSpec(
        name="encrypting",
        memory_mib=2048,
        extra_args=(
            *("-drive", f"file={disk},if=none,id=second,format=raw,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=second,serial=second,bootindex=9"),
        ),
    )


@pytest.mark.long
@pytest.mark.bootc_vm(tpm=True, firmware="uefi")
def test_a_root_that_the_tpm_opens_is_installed_and_boots(
    encrypting: str, bootc_vm: MachineFactory, bootc_registry: Registry, tmp_path: Path
) -> None:
    machine = bootc_vm(encrypting, origin=FOLLOWS, spec=_with_second_disk(tmp_path))
    bootc_registry.configure(machine, GUEST_NAME)
    bootc_registry.push(encrypting, "os:stable")
    said = machine.succeed(
        "bootc install to-disk --block-setup=tpm2-luks --karg=console=ttyS0,115200n8 "
        f"--source-imgref=docker://{FOLLOWS} {_SECOND}",
        seconds=1200,
    )
    assert f"Installed {FOLLOWS}" in said
    assert machine.succeed("ls /dev/mapper").split() == ["control"]
    assert machine.succeed("find /run -maxdepth 1 -name 'bootc-key-*'") == ""
    # Without its EFI system partition the firmware passes the first disk over.
    machine.succeed("dd if=/dev/zero of=/dev/vda2 bs=1M count=1 oflag=direct")
    machine.reboot()
    source = machine.succeed("findmnt --noheadings --output SOURCE /sysroot")
    assert source.startswith("/dev/mapper/luks-")
    assert machine.bootc.booted.image == FOLLOWS
    assert machine.failed_units() == []
    # One key, and it is the TPM's.
    dump = machine.succeed(f"cryptsetup luksDump {_SECOND}-part4")
    slots = dump.partition("Keyslots:")[2].partition("Tokens:")[0]
    assert slots.count("luks2") == 1
    assert "systemd-tpm2" in dump
    # Later deployments keep the arguments by which the root is opened.
    machine.succeed("bootc kargs --append=after.install=yes")
    machine.reboot()
    assert "after.install=yes" in machine.read("/proc/cmdline")
    assert machine.succeed("findmnt --noheadings --output SOURCE /sysroot") == source
