"""A disk of an ordinary Debian, without ostree: /boot/vmlinuz, GRUB with a menu in a file, a writable root."""

import shutil
import subprocess
import time
from pathlib import Path

from bootc_build.disk import trees
from bootc_build.disk.assemble import write_raw_disk
from bootc_build.disk.identity import Identity
from bootc_build.disk.plan import plan_disk
from bootc_build.onhost.install import bootloader
from bootc_build.onhost.progress import Silent
from bootc_build.tools.buildah import working_container

_MENU = """set timeout=1
menuentry 'Debian' {{
	linux /vmlinuz root=UUID={root} rw console=tty0 console=ttyS0,115200n8
	initrd /initrd.img
}}
"""


def make_disk(image: str, folder: Path) -> Path:
    """Lay an image's files out as an ordinary system, in a raw disk in ``folder``.

    Args:
        image: a bootable image of local storage, for its packages and kernel.
        folder: an empty one.
    """
    tree = folder / "root"
    with working_container(image) as container:
        subprocess.run(["cp", "-a", f"{container.mount()}/.", tree], check=True)
    (tree / "ostree").unlink()
    (tree / "sysroot").rmdir()
    identity = Identity.derive(image, {"ordinary": True})
    boot = tree / "boot"
    (modules,) = (tree / "usr/lib/modules").iterdir()
    shutil.copy(modules / "vmlinuz", boot / "vmlinuz")
    shutil.copy(modules / "initramfs.img", boot / "initrd.img")
    bootloader.install(("bios", "uefi"), boot=boot, boot_uuid=str(identity.boot_uuid))
    menu = boot / "grub/grub.cfg"
    menu.unlink()
    menu.write_text(_MENU.format(root=identity.root_uuid))
    (tree / "etc/fstab").write_text(
        f"UUID={identity.root_uuid} / ext4 defaults 0 1\n"
        f"UUID={identity.boot_uuid} /boot ext4 defaults 0 2\n"
    )
    installed = trees.split(tree)
    now = int(time.time())
    settled = trees.settle(installed, now)
    plan = plan_disk(identity, settled.contents, timestamp=now)
    disk = folder / "disk.raw"
    write_raw_disk(plan, settled, disk, Silent())
    # The others are gone: they are written first, and their space is wanted.
    shutil.rmtree(installed.root)
    return disk
