"""What `bootc install` lays down boots, and is a host like any other."""

import os
import subprocess
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.tools import skopeo
from bootc_build.tools.buildah import image_id, working_container
from bootc_build.vm.registry import Registry
from test_vms import plain_debian
from test_vms.example_os import FOLLOWS, Versions

_GIB = 2**30
# As in a privileged container: the host's devices, the image's files and programs.
_ENTER = """
set -eu
root=$1 work=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$work/entered"
cd "$work/entered"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p run/work run/udev
mount --bind "$work" run/work
exec chroot . "$@"
"""


def install_to_file(image: str, disk: Path, *options: str) -> None:
    """Run the image's own ``bootc install to-disk`` in it, to a file in an otherwise empty folder."""
    work = disk.parent
    skopeo.export_uncompressed(image_id(image), work / "source", "image")
    (work / "entered").mkdir()
    with disk.open("xb") as file:
        file.truncate(10 * _GIB)
    with working_container(image) as container:
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _ENTER,
            "sh",
        ]
        subprocess.run(
            [
                *(*command, str(container.mount()), str(work)),
                *("/usr/bin/bootc", "install", "to-disk", "--via-loopback"),
                *("--source-imgref=oci:/run/work/source:image", f"--target-imgref={FOLLOWS}"),
                *("--karg=console=tty0", "--karg=console=ttyS0,115200n8", *options),
                f"/run/work/{disk.name}",
            ],
            check=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/tmp"},
        )


@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs loop devices")
@pytest.mark.parametrize("firmware", ["bios", pytest.param("uefi-secure", marks=pytest.mark.long)])
def test_disk_that_the_image_made_itself_boots_and_upgrades(
    firmware: str,
    versions: Versions,
    bootc_vm: MachineFactory,
    bootc_registry: Registry,
    tmp_path: Path,
) -> None:
    assert os.geteuid() == 0
    disk = tmp_path / "disk.raw"
    install_to_file(versions.one, disk, "--root-size=6G")
    machine = bootc_vm(disk, firmware=firmware)
    assert machine.bootc.booted.image == FOLLOWS
    assert machine.bootc.booted.version == "1"
    assert machine.failed_units() == []
    assert "/boot" in machine.succeed("findmnt --noheadings --output TARGET /boot")
    assert int(machine.succeed("findmnt -bno SIZE /sysroot")) < 6 * _GIB
    assert '"ok": true' in machine.succeed("bootc internals fsck --format json", seconds=600)
    bootc_registry.configure(machine, "registry.example")
    bootc_registry.push(versions.two, "os:stable")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.bootc.booted.version == "2"
    assert machine.bootc.rollback_target.version == "1"


@pytest.mark.long
def test_running_debian_is_taken_over_and_its_files_stay(
    base_image: str,
    versions: Versions,
    bootc_vm: MachineFactory,
    bootc_registry: Registry,
    tmp_path: Path,
) -> None:
    machine = bootc_vm(plain_debian.make_disk(base_image, tmp_path))
    machine.fail("test -e /run/ostree-booted")
    machine.succeed("echo mine > /etc/only-on-debian; test -e /boot/vmlinuz")
    bootc_registry.configure(machine, "registry.example")
    bootc_registry.push(versions.one, "os:stable")
    said = machine.succeed(
        "bootc install to-existing-root --cleanup --acknowledge-destructive --karg=console=ttyS0,115200n8 "
        f"--source-imgref=docker://{FOLLOWS} /",
        seconds=900,
    )
    assert "Installed registry.example/os:stable to /" in said
    machine.fail("test -e /boot/vmlinuz")
    assert "Ready to boot" in machine.succeed("bootc install finalize /")
    machine.reboot()
    assert machine.bootc.booted.image == FOLLOWS
    assert machine.bootc.booted.version == "1"
    assert machine.read("/sysroot/etc/only-on-debian") == "mine\n"
    machine.fail("test -e /etc/only-on-debian")
    # What the old system was made of goes, when the new one is up; what belongs to people stays.
    machine.wait_until_succeeds("test ! -e /sysroot/etc/bootc-destructive-cleanup", seconds=300)
    machine.fail("test -e /sysroot/usr -o -e /sysroot/var/lib/dpkg")
    assert machine.read("/sysroot/etc/only-on-debian") == "mine\n"
    assert machine.failed_units() == []
    # The old boot loader is not needed any more: what boots is what the agent writes.
    bootc_registry.configure(machine, "registry.example")
    bootc_registry.push(versions.two, "os:stable")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.bootc.booted.version == "2"
