"""A guest of a kernel and busybox: it boots in seconds, takes no credentials, and asks for a login on ttyS0."""

import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.tools.buildah import working_container
from bootc_build.vm.spec import DirectKernel, Login, MachineSpec

LOGIN: Final = Login("root", "a word")
# In the order in which they need each other.
_MODULES: Final = ("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net")
_INIT: Final = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
for module in failover net_failover virtio_net; do insmod /$module.ko; done
hostname tiny
while :; do setsid getty -L 115200 ttyS0 vt100; done
"""


@dataclass(frozen=True)
class TinyGuest:
    """What it boots from.

    Args:
        disk: it is empty; machines have one.
        kernel: with its initramfs, which is all there is.
    """

    disk: Path
    kernel: DirectKernel

    def spec(self, name: str = "tiny", **wishes: object) -> MachineSpec:
        """A machine of it, without a network card of its own."""
        usual = {"memory_mib": 192, "cpus": 1, "network": False, "login": LOGIN, "lane": False}
        return MachineSpec(name=name, kernel=self.kernel, **{**usual, **wishes})  # type: ignore[arg-type]


def make(image: str, folder: Path) -> TinyGuest:
    """Put one together in an empty folder.

    Args:
        image: a bootable image of local storage, for its kernel.
        folder: where the files are for as long as machines run.
    """
    root = folder / "root"
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    with working_container(image) as container:
        [modules] = (container.mount() / "usr/lib/modules").iterdir()
        shutil.copy(modules / "vmlinuz", folder)
        for name in _MODULES:
            packed = modules / f"kernel/{name}.ko.xz"
            (root / f"{Path(name).name}.ko").write_bytes(lzma.decompress(packed.read_bytes()))
    shutil.copy("/bin/busybox", root / "bin")
    (root / "bin/sh").symlink_to("busybox")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    word = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", "tiny", LOGIN.password],
        check=True,
        capture_output=True,
        text=True,
    )
    (root / "etc/passwd").write_text(f"root:{word.stdout.strip()}:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    # The same bytes each time, so that a snapshot of the guest serves the next run.
    paths = sorted(root.rglob("*"))
    for path in paths:
        os.utime(path, (0, 0), follow_symlinks=False)
    names = "\0".join(str(path.relative_to(root)) for path in paths)
    initramfs = folder / "initramfs"
    with initramfs.open("wb") as file:
        subprocess.run(
            ["cpio", "--quiet", "--null", "--create", "--format=newc", "--reproducible"],
            cwd=root,
            input=names.encode(),
            stdout=file,
            check=True,
        )
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(2**20)
    arguments = "console=ttyS0 printk.devkmsg=on quiet panic=-1"
    return TinyGuest(disk, DirectKernel(folder / "vmlinuz", initramfs, arguments))
