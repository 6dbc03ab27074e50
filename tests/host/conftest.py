"""A host that is booted as far as ``bootc`` can see."""

import os
import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.ostree.sysroot import create_sysroot
from tests.host.invented_os import commit_image
from tests.host.pretend_boot import CHECKOUT, MENU_GENERATOR, PretendHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendHost:
    """Version 1 is booted and tracks ``oci:/tmp/image:image``, which the tests replace."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    path = tmp_path / "sysroot"
    path.mkdir(exist_ok=True)  # a test may have mounted something there
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    kargs = 'kargs = ["old=1", "both=1"]\n'
    image = commit_image(tmp_path, sysroot.repo, version="1", kargs=kargs)
    sysroot.init_stateroot("default")
    origin = Origin.of_image("ostree-unverified-image:oci:/tmp/image:image").serialise()
    arguments = ("root=UUID=r", "rw", "old=1", "both=1", "mine=1")
    sysroot.deploy(stateroot="default", commit=image.merge_commit, origin=origin, kargs=arguments)
    # As an installation leaves it: the first menu is written by hand, libostree writes the next ones.
    generator = str(CHECKOUT / MENU_GENERATOR)
    subprocess.run([generator, "-o", str(path / "boot/loader/grub.cfg")], check=True)
    (path / "boot/grub").mkdir()
    (path / "boot/grub/grub.cfg").symlink_to("../loader/grub.cfg")
    sysroot.configure_repo({("sysroot", "bootloader"): "grub2"})
    usr = Path(os.environ.get("BOOTC_BUILD_TEST_USR", "/usr"))
    return PretendHost(path, tmp_path / "scratch", usr)
