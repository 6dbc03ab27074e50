"""A disk with GRUB and a boot menu of ours, but no kernels: what boots only says that it does, and restarts.

`linux` and `initrd` are functions of GRUB's script language here, so that a whole boot takes seconds.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from bootc_build.onhost.install.bootsector import SECTOR, embed

GENERATOR: Final = (
    Path(__file__).parents[1] / "bootc_build/data/image_root/usr/libexec/bootc/grub-menu"
)
_MODULES: Final = (
    "biosdisk", "part_msdos", "ext2", "normal", "configfile", "serial", "terminal", "test", "true",
    "loadenv", "echo", "reboot", "search", "sleep",
)  # fmt: skip
_START: Final = 2048  # the partition's first sector; GRUB's core is before it
_SECTORS: Final = 16 * 2048
# A kernel that is empty cannot be loaded.
_PRETENCE: Final = """
function linux {
	set loaded=
	if [ -s "$1" ]; then echo "STARTS $1 $4"; set loaded=1; else echo "CANNOT LOAD $1"; false; fi
}
function initrd {
	if [ -n "$loaded" ]; then reboot; else false; fi
}
configfile /boot/loader/grub.cfg
"""


def deployment(letter: str, serial: int = 0) -> str:
    """The name of an invented deployment."""
    return f"{letter * 64}.{serial}"


class MenuTree:
    """A root file system with deployments and boot entries, as far as the boot menu is concerned.

    Args:
        root: an empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "ostree/deploy/default/deploy").mkdir(parents=True)
        (root / "boot/grub").mkdir(parents=True)
        (root / "boot/grub/grub.cfg").write_text(_PRETENCE)

    def write(
        self,
        names: list[str],
        *,
        unloadable: tuple[str, ...] = (),
        settings: str | None = None,
        options: str = "rw",
        deploy: bool = True,
    ) -> str:
        """Make boot entries of deployments, the first one of which is the default, and the menu; its text.

        Args:
            names: of the deployments.
            unloadable: those whose kernel is such that it cannot be loaded.
            settings: the text of /etc/bootc/health.conf.
            options: kernel arguments of all.
            deploy: make the deployments' directories, too.
        """
        shutil.rmtree(self.root / "boot/loader", ignore_errors=True)
        (self.root / "boot/loader/entries").mkdir(parents=True)
        for number, name in enumerate(names):
            if deploy:
                self._deploy(number, name)
            kernel = f"ostree/{name[0]}/vmlinuz"
            (self.root / "boot" / kernel).parent.mkdir(parents=True, exist_ok=True)
            (self.root / "boot" / kernel).write_text("" if name in unloadable else "kernel")
            version = len(names) - number
            entry = (
                f"title {name[:4]}\nversion {version}\nlinux /boot/{kernel}\ninitrd /boot/{kernel}.img\n"
                f"options {options} ostree=/ostree/boot.1/default/x/{number}\n"
            )
            (self.root / f"boot/loader/entries/ostree-{version}.conf").write_text(entry)
        if settings is not None:
            (self.root / "etc/bootc").mkdir(parents=True, exist_ok=True)
            (self.root / "etc/bootc/health.conf").write_text(settings)
        return self.generate()

    def pretend_file_system(self, kind: str) -> None:
        """Have the generator take /boot for a file system of this type, as stat(1) names it."""
        program = self.root / "bin/stat"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\n[ "$1" = -f ] || exec /usr/bin/stat "$@"\necho {kind}\n')
        program.chmod(0o755)

    def generate(self) -> str:
        """Make the menu of the boot entries that there are; its text."""
        menu = self.root / "boot/loader/grub.cfg"
        path = f"{self.root}/bin:/usr/bin:/bin"
        environment = {"PATH": path, "BOOTC_CONFIGURATION_ROOT": str(self.root)}
        subprocess.run([GENERATOR, "-o", menu], check=True, env=environment)
        subprocess.run(["grub-script-check", menu], check=True)
        return menu.read_text()

    def _deploy(self, number: int, name: str) -> None:
        directory = self.root / "ostree/deploy/default/deploy" / name
        unit = directory / "usr/lib/systemd/system/bootc-boot-complete.service"
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.touch()
        link = self.root / f"ostree/boot.1/default/x/{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../../deploy/default/deploy/{name}")

    def make_disk(self, disk: Path) -> None:
        """Write a disk that starts with this menu."""
        folder = disk.parent
        partition, grub = folder / "partition", folder / "grub-core"
        grub.mkdir()
        shutil.copy("/usr/lib/grub/i386-pc/boot.img", grub)
        subprocess.run(
            [
                "grub-mkimage",
                "--format=i386-pc",
                "--prefix=(hd0,msdos1)/boot/grub",
                f"--output={grub}/core.img",
                *_MODULES,
            ],
            check=True,
        )
        partition.touch()
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-d", self.root, partition, f"{_SECTORS // 2}k"],
            check=True,
        )
        with disk.open("wb") as file:
            file.truncate((_START + _SECTORS) * SECTOR)
        table = f"label: dos\nstart={_START}, size={_SECTORS}, type=83, bootable\n"
        subprocess.run(["sfdisk", "--quiet", disk], input=table.encode(), check=True)
        embed(grub, disk, sector=1, room=(_START - 1) * SECTOR)
        with disk.open("r+b") as file:
            file.seek(_START * SECTOR)
            file.write(partition.read_bytes())
