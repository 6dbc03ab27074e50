from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.disk.ec2 import CloudInit, NotForEc2Error, check_root, kernel_arguments

NVME = "kernel/drivers/nvme/host/nvme.ko\n"
TIMEOUT = "nvme_core.io_timeout=4294967295"


def refuse_to_list() -> str:
    raise AssertionError("the kernel has it, there is nothing to look for")


@pytest.fixture
def cloud_tree(tree: Path) -> Path:
    """A tree with everything that EC2 asks for."""
    [kernel] = (tree / "usr/lib/modules").iterdir()
    (kernel / "modules.builtin").write_text(NVME)
    ena = kernel / "kernel/drivers/net/ethernet/amazon/ena/ena.ko.xz"
    for file in (ena, tree / "usr/sbin/sshd", tree / "usr/bin/cloud-init"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tree


def faults(
    tree: Path, cloud_init: CloudInit, listing: Callable[[], str | None] = refuse_to_list
) -> str:
    with pytest.raises(NotForEc2Error) as refused:
        check_root("os:1", tree, cloud_init, listing)
    return refused.value.fact


def test_a_cloud_image_is_taken(cloud_tree: Path) -> None:
    check_root("os:1", cloud_tree, CloudInit.IMAGE, refuse_to_list)


def test_a_driver_may_be_in_the_initramfs_instead(cloud_tree: Path) -> None:
    [builtin] = cloud_tree.glob("usr/lib/modules/*/modules.builtin")
    builtin.write_text("kernel/fs/ext4/ext4.ko\n")
    listing = "-rw-r--r-- 1 root root 1 Jan 1 1970 usr/lib/modules/6/kernel/drivers/nvme/host/nvme.ko.xz\n"
    check_root("os:1", cloud_tree, CloudInit.IMAGE, lambda: listing)
    assert "has no NVMe driver" in faults(cloud_tree, CloudInit.IMAGE, lambda: "nvme-core.ko.xz\n")
    assert "cannot be seen" in faults(cloud_tree, CloudInit.IMAGE, lambda: None)


def test_everything_that_is_missing_is_told_at_once(tree: Path) -> None:
    said = faults(tree, CloudInit.IMAGE, lambda: "")
    for part in ("nvme", "ena", "openssh-server", "package cloud-init"):
        assert part in said


def test_no_cloud_init_may_be_wanted(cloud_tree: Path) -> None:
    (cloud_tree / "usr/bin/cloud-init").unlink()
    assert "--cloud-init none" in faults(cloud_tree, CloudInit.IMAGE)
    check_root("os:1", cloud_tree, CloudInit.NONE, refuse_to_list)


def test_cloud_init_that_is_switched_off_is_told(cloud_tree: Path) -> None:
    (cloud_tree / "etc/cloud").mkdir()
    (cloud_tree / "etc/cloud/cloud-init.disabled").touch()
    assert "switched off" in faults(cloud_tree, CloudInit.IMAGE)


@pytest.mark.parametrize(
    ("kargs", "more"),
    [
        ((), (TIMEOUT,)),
        (("quiet",), (TIMEOUT,)),
        (("console=tty1",), ("console=ttyS0,115200n8", TIMEOUT)),
        (("console=ttyS0,9600",), (TIMEOUT,)),
        (("nvme_core.io_timeout=60",), ()),
    ],
)
def test_ec2_has_a_serial_console_and_patience_with_its_disks(
    kargs: tuple[str, ...], more: tuple[str, ...]
) -> None:
    assert kernel_arguments(kargs, ec2=True, cloud_init=CloudInit.IMAGE) == (*kargs, *more)
    assert kernel_arguments(kargs, ec2=False, cloud_init=CloudInit.IMAGE) == kargs


@pytest.mark.parametrize("ec2", [False, True])
def test_cloud_init_none_switches_it_off(*, ec2: bool) -> None:
    given = kernel_arguments((), ec2=ec2, cloud_init=CloudInit.NONE)
    assert given[-1] == "cloud-init=disabled"
