"""Images that would not boot, or not as they say, are not queued: the fault is named, with the real libostree."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost
from tests.kernels import small_kernel


def without_kernel(tree: Path) -> None:
    (tree / "usr/lib/modules/1.0/vmlinuz").unlink()


def with_two_kernels(tree: Path) -> None:
    shutil.copytree(tree / "usr/lib/modules/1.0", tree / "usr/lib/modules/2.0")


def without_initramfs(tree: Path) -> None:
    (tree / "usr/lib/modules/1.0/initramfs.img").unlink()


def with_a_cut_kernel(tree: Path) -> None:
    (tree / "usr/lib/modules/1.0/vmlinuz").write_bytes(small_kernel()[:-1])


def with_wrong_kargs(tree: Path) -> None:
    (tree / "usr/lib/bootc/kargs.d/10-bad.toml").write_text('kargs = "one"')


def with_kargs_that_lead_nowhere(tree: Path) -> None:
    (tree / "usr/lib/bootc/kargs.d/10-bad.toml").symlink_to("/nowhere")


def without_etc(tree: Path) -> None:
    shutil.rmtree(tree / "etc")


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (without_kernel, "no /usr/lib/modules/*/vmlinuz"),
        (with_two_kernels, "2 kernels: 1.0, 2.0"),
        (without_initramfs, "no /usr/lib/modules/1.0/initramfs.img"),
        (with_a_cut_kernel, "not whole: /usr/lib/modules/1.0/vmlinuz has 2559 bytes"),
        (with_wrong_kargs, "/usr/lib/bootc/kargs.d/10-bad.toml"),
        (with_kargs_that_lead_nowhere, "/usr/lib/bootc/kargs.d/10-bad.toml leads to no file"),
        (without_etc, "/etc of the image is missing, or no directory"),
    ],
)
def test_image_that_would_not_boot_is_not_queued(
    host: PretendHost, spoil: Callable[[Path], None], fact: str
) -> None:
    write_image(host.scratch / "tmp/image", host.scratch, version="2", spoil=spoil)
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert fact in done.stderr
    assert host.status()["staged"] is None
