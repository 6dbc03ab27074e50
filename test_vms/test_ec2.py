"""The disk of an AMI, booted as EC2 boots it: UEFI, NVMe, and a metadata service that has the key."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from bootc_build.vm.spec import DiskBus, Forward, MachineSpec
from test_vms import os_images
from test_vms.example_os import FOLLOWS
from test_vms.instance_metadata import GUEST_ADDRESS, InstanceMetadata

_USER = "debian"
_CLOUD_INIT_SECONDS = 600
_GIB = 2**30
# Larger than the image, as EC2 lets people have it.
_VOLUME_BYTES = 8 * _GIB


@pytest.fixture(scope="module")
def ami_disk(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an image like those on the variant "cloud", on a volume that is larger."""
    image = os_images.build(
        "cloud",
        os_images.PROJECT / "test_vms/cloud/Containerfile",
        arguments=[("BASE", base_image)],
    )
    folder = tmp_path_factory.mktemp("ami")
    request = DiskRequest(image, [DiskType.AMI], folder, target=parse_target(FOLLOWS))
    [disk] = build_disk(request, Silent())
    assert disk.disk_bytes < _VOLUME_BYTES // 2
    os.truncate(disk.path, _VOLUME_BYTES)
    return disk.path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The private key of who started the instance."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def spec() -> MachineSpec:
    """An instance, but for what its metadata service tells."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    return MachineSpec(
        name="instance",
        memory_mib=2048,
        disk_bus=DiskBus.NVME,
        forwards=(Forward(guest_port=22, host_port=port),),
    )


@pytest.fixture
def metadata(spec: MachineSpec, key: Path) -> Iterator[InstanceMetadata]:
    """The metadata service of the instance."""
    public = key.with_suffix(".pub").read_text().strip()
    with InstanceMetadata(spec.mac_address, public) as service:
        yield service


def ssh(spec: MachineSpec, key: Path, command: str) -> str:
    """Log in from outside with the key, and run a command."""
    return subprocess.run(
        [
            *("ssh", "-i", str(key), "-p", str(spec.forwards[0].host_port)),
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=120"),
            *(f"{_USER}@127.0.0.1", command),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
    ).stdout


@pytest.mark.long
def test_an_instance_takes_its_key_from_the_metadata_service(
    ami_disk: Path,
    key: Path,
    spec: MachineSpec,
    metadata: InstanceMetadata,
    bootc_vm: MachineFactory,
) -> None:
    machine = bootc_vm(
        ami_disk,
        firmware="uefi",
        spec=replace(
            spec,
            network_options=metadata.network_options,
            extra_args=metadata.qemu_arguments,
        ),
    )
    assert_made_for_nitro(machine)
    machine.execute("cloud-init status --wait", seconds=_CLOUD_INIT_SECONDS)
    status = json.loads(machine.succeed("cloud-init status --format json"))
    assert (status["status"], status["errors"]) == ("done", [])
    assert status["datasource"].startswith("ec2")
    assert machine.succeed("cloud-init query v1.instance_id").strip() == metadata.instance_id
    assert_asked_with_tokens(metadata)

    user, root, *addresses = ssh(spec, key, "id -un; sudo id -u; hostname -I").split()
    assert (user, root) == (_USER, "0")
    assert GUEST_ADDRESS in addresses
    machine.wait_for_unit("bootc-grow-root.service")
    assert int(machine.succeed("findmnt -bno SIZE /sysroot")) > _VOLUME_BYTES // 2
    assert machine.failed_units() == []
    assert machine.bootc.booted.image == FOLLOWS


def assert_made_for_nitro(machine: Machine) -> None:
    """NVMe with patience, EC2's network driver, a serial console, UEFI."""
    assert machine.succeed("findmnt -no SOURCE /sysroot").startswith("/dev/nvme0n1p")
    assert machine.read("/sys/module/nvme_core/parameters/io_timeout").strip() == "4294967295"
    assert "/ena.ko" in machine.succeed("modinfo -F filename ena")
    assert "ttyS0" in machine.read("/sys/class/tty/console/active").split()
    machine.succeed("test -d /sys/firmware/efi")


def assert_asked_with_tokens(metadata: InstanceMetadata) -> None:
    """Everything that was answered was asked by version 2 of the protocol."""
    answered = [request for request in metadata.requests if request.status == 200]
    assert any(request.method == "PUT" for request in answered)
    gets = [request for request in answered if request.method == "GET"]
    assert any(request.path.endswith("public-keys/0/openssh-key") for request in gets)
    assert all(request.has_token for request in gets)
