"""A disk made with a configuration: what it says is so on the machine, and after an upgrade too."""

import base64
import json
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from bootc_build.tools.sizes import GIB, MIB
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from bootc_build.vm.spec import Forward, MachineSpec
from test_vms import os_images
from test_vms.example_os import FOLLOWS, Versions

PASSWORD = "open sesame"  # noqa: S105 - of a machine that lives for a minute
CONFIGURATION = """
updates: 1
root: {{filesystem: {filesystem}, label: system}}
boot: {{size: 512 MiB}}
swap: {{size: 64 MiB}}
filesystems:
  # A link in the image, which leads to /var/home.
  - {{mountpoint: /home, size: 128 MiB, filesystem: ext4, options: [nodev, nosuid]}}
  - {{mountpoint: /var/data, size: 300 MiB, filesystem: btrfs, label: data}}
kernel-arguments: [bootc.test=yes]
hostname: node1
locale: C.UTF-8
timezone: Europe/Berlin
ntp-servers: [10.0.2.2]
groups: [{{name: ops}}]
users:
  - {{name: admin, description: "Ann Admin", password: {password}, ssh-keys: ["{key}"], groups: [sudo, ops]}}
  - {{name: root, ssh-keys: ["{key}"]}}
directories: [{{path: /etc/example.d, mode: "0750", group: ops}}]
files:
  - {{path: /etc/example.d/site.conf, content: "site = north\\n", mode: "0640", owner: admin, group: ops}}
  - {{path: /home/admin-notes, content: "kept\\n", owner: admin}}
services: {{disabled: [systemd-timesyncd], masked: [fstrim.timer]}}
sshd: {{password-authentication: false}}
"""


@dataclass(frozen=True)
class Configured:
    """A disk, and the key of its users."""

    disk: Path
    key: Path


@pytest.fixture(scope="module")
def make_disk(
    tmp_path_factory: pytest.TempPathFactory, versions: Versions
) -> Callable[[str], Configured]:
    """Makes a disk with a file system of the root, enlarged afterwards as a cloud would."""

    def make(filesystem: str) -> Configured:
        folder = tmp_path_factory.mktemp(filesystem)
        key = folder / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        public = key.with_suffix(".pub").read_text().strip()
        text = CONFIGURATION.format(filesystem=filesystem, password=PASSWORD, key=public)
        configuration = disk_configuration(parse_document(text, ".yaml", "test"), "test")
        return Configured(build(versions.one, configuration, folder), key)

    return make


def build(image: str, configuration: DiskConfiguration, folder: Path) -> Path:
    [disk] = build_disk(
        DiskRequest(
            image,
            [DiskType.RAW],
            folder,
            target=parse_target(FOLLOWS),
            configuration=configuration,
            manifest=False,
        ),
        Silent(),
    )
    run(["qemu-img", "resize", "-q", "-f", "raw", str(disk.path), "+3G"])
    return disk.path


@pytest.fixture(scope="module")
def configured(make_disk: Callable[[str], Configured]) -> Configured:
    return make_disk("ext4")


def spec() -> MachineSpec:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return MachineSpec(forwards=(Forward(22, port),))


def ssh(machine: Machine, key: Path, user: str, command: str) -> str:
    """Log in through the forwarded port, and run a command."""
    [forward] = machine.spec.forwards
    options = {
        "IdentityFile": str(key),
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": str(int(machine.seconds(60))),
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    where = ["-p", str(forward.host_port), f"{user}@127.0.0.1"]
    return run(["ssh", "-F", "none", *flags, *where, command]).stdout


def check_users(machine: Machine, key: Path) -> None:
    machine.wait_for_unit("ssh.service")
    assert ssh(machine, key, "admin", "id -un; id -Gn; pwd; stat -c %U:%a . .ssh").split() == [
        *("admin", "admin", "sudo", "ops"),
        *("/var/home/admin", "admin:700", "admin:700"),
    ]
    assert ssh(machine, key, "root", "id -un") == "root\n"
    said = subprocess.run(  # noqa: PLW1510 - it has to fail
        ["ssh", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no",
         "-oUserKnownHostsFile=/dev/null", "-oIdentityFile=/dev/null", "-oIdentitiesOnly=yes",
         "-p", str(machine.spec.forwards[0].host_port), "admin@127.0.0.1", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Permission denied (publickey)" in said.stderr
    # By password, as somebody who may not do it without.
    secret = base64.b64encode(f"{PASSWORD}\n".encode()).decode()
    become = f"runuser -u nobody -- sh -c 'echo {secret} | base64 -d | su admin -c whoami'"
    assert machine.succeed(become) == "admin\n"
    wrong = "runuser -u nobody -- sh -c 'echo wrong | su admin -c whoami'"
    assert "Authentication failure" in machine.fail(wrong)


def check_settings(machine: Machine) -> None:
    assert machine.succeed("hostname") == "node1\n"
    assert machine.succeed("readlink -f /etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin\n"
    assert machine.read("/etc/locale.conf") == "LANG=C.UTF-8\n"
    assert "bootc.test=yes" in machine.read("/proc/cmdline")
    assert machine.succeed("stat -c '%a %U %G' /etc/example.d/site.conf") == "640 admin ops\n"
    assert machine.read("/etc/example.d/site.conf") == "site = north\n"
    assert machine.read("/home/admin-notes") == "kept\n"
    assert "NTP=10.0.2.2" in machine.succeed("systemd-analyze cat-config systemd/timesyncd.conf")
    assert machine.fail("systemctl is-enabled systemd-timesyncd fstrim.timer").split() == [
        "disabled",
        "masked",
    ]
    machine.wait_for_unit("multi-user.target")
    assert machine.failed_units() == []


def check_mounts(machine: Machine, filesystem: str) -> None:
    shown = "findmnt --json --real --output TARGET,FSTYPE,LABEL,OPTIONS"
    found = {
        each["target"]: each for each in flat(json.loads(machine.succeed(shown))["filesystems"])
    }
    assert found["/boot"]["fstype"] == "ext4"
    assert found["/var/home"]["fstype"] == "ext4"
    assert {"nodev", "nosuid"} <= set(found["/var/home"]["options"].split(","))
    assert (found["/var/data"]["fstype"], found["/var/data"]["label"]) == ("btrfs", "data")
    assert (found["/sysroot"]["fstype"], found["/sysroot"]["label"]) == (filesystem, "system")
    assert machine.succeed("swapon --show=TYPE --noheadings") == "partition\n"


def flat(mounts: list[dict[str, object]]) -> list[dict[str, str]]:
    found = []
    for each in mounts:
        children = each.pop("children", [])
        found.append({key: str(value) for key, value in each.items()})
        assert isinstance(children, list)
        found += flat(children)
    return found


def check_growth(machine: Machine, disk: Path) -> None:
    machine.wait_for_unit("bootc-grow-root.service")
    whole = disk.stat().st_size
    root = int(machine.succeed("findmnt -bnro SIZE /sysroot"))
    # Everything else is below 1.3 GiB, and ext4 keeps some for itself.
    assert root > (whole - 1300 * MIB) * 0.9
    assert root > 3 * GIB
    assert "No errors detected" in machine.succeed("sfdisk --verify /dev/vda")
    again = machine.succeed(
        "systemctl restart bootc-grow-root; journalctl -u bootc-grow-root -o cat"
    )
    assert again.count("grow-root: growing") == 1


def test_a_configured_machine_is_as_it_was_said(
    bootc_vm: MachineFactory, configured: Configured
) -> None:
    machine = bootc_vm(configured.disk, spec=spec())
    check_growth(machine, configured.disk)
    check_mounts(machine, "ext4")
    check_settings(machine)
    check_users(machine, configured.key)


@pytest.mark.long
def test_users_and_settings_stay_through_an_upgrade_and_new_system_users_come(
    bootc_vm: MachineFactory,
    bootc_registry: Registry,
    configured: Configured,
    versions: Versions,
) -> None:
    machine = bootc_vm(configured.disk, spec=spec())
    check_users(machine, configured.key)
    later = os_images.build(
        "configured",
        os_images.PROJECT / "test_vms/configured/Containerfile",
        arguments=[("OS", versions.two)],
    )
    machine.write(
        "/etc/containers/registries.conf.d/test.conf",
        bootc_registry.guest_configuration("registry.example"),
    )
    bootc_registry.push(later, "os:stable")
    machine.fail("id newservice")
    machine.bootc.upgrade()
    machine.reboot()
    assert machine.bootc.booted.version == "2"
    assert machine.succeed("id -u newservice") == "480\n"
    check_users(machine, configured.key)
    check_settings(machine)
    check_mounts(machine, "ext4")
    machine.bootc.rollback()
    machine.reboot()
    check_users(machine, configured.key)


@pytest.mark.long
def test_a_btrfs_root_boots_and_grows(
    bootc_vm: MachineFactory, make_disk: Callable[[str], Configured]
) -> None:
    made = make_disk("btrfs")
    machine = bootc_vm(made.disk, spec=spec(), firmware="uefi")
    check_growth(machine, made.disk)
    check_mounts(machine, "btrfs")
    check_settings(machine)
    check_users(machine, made.key)


NEWER = {
    "xfs": "root: {filesystem: xfs, label: system}",
    "subvolumes": """
        root:
          filesystem: btrfs
          label: system
          subvolumes: [{name: system, mountpoint: /}, {name: home, mountpoint: /home}]
    """,
}


@pytest.mark.long
@pytest.mark.parametrize("kind", NEWER)
def test_file_systems_of_the_images_own_programs_boot_grow_and_are_intact(
    bootc_vm: MachineFactory, tmp_path: Path, kind: str
) -> None:
    wanted = disk_configuration(parse_document(NEWER[kind], ".yaml", "test"), "test")
    disk = build(os_images.newest_base_image(), wanted, tmp_path)
    machine = bootc_vm(disk, spec=spec())
    machine.wait_for_unit("multi-user.target")
    assert machine.failed_units() == []
    check_growth(machine, disk)
    filesystem = "xfs" if kind == "xfs" else "btrfs"
    assert machine.succeed("findmnt -no FSTYPE,LABEL /sysroot").split() == [filesystem, "system"]
    if kind == "subvolumes":
        assert machine.succeed("findmnt -no FSROOT /var/home") == "/home\n"
        assert "rootflags=subvol=system" in machine.read("/proc/cmdline")
    # Hard links into the repository, owners and attributes came along.
    machine.succeed("ostree fsck --quiet", seconds=600)
    assert int(machine.succeed("stat -c %h /usr/bin/bash")) > 1
