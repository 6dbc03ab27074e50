"""A tree shaped as `bootc install` leaves it, small enough for a test of seconds."""

import os
import struct
from pathlib import Path

KERNEL = "boot/ostree/default-abc/vmlinuz-6.12"
DEPLOYMENT = "ostree/deploy/default/deploy/0123.0"


def make_installed_tree(target: Path) -> None:
    files = {
        KERNEL: b"kernel" * 10_000,
        "boot/loader.1/entries/ostree-1.conf": b"title One\noptions root=UUID=x\n",
        "boot/grub/i386-pc/boot.img": b"\xeb\x63" + bytes(508) + b"\x55\xaa",
        "boot/grub/i386-pc/core.img": core_image(),
        "boot/efi/EFI/BOOT/BOOTX64.EFI": b"MZshim" * 1000,
        "boot/efi/EFI/BOOT/grubx64.efi": b"MZgrub" * 1000,
        "boot/efi/EFI/debian/grub.cfg": b"configfile\n",
        f"{DEPLOYMENT}/usr/bin/true": b"\x7fELF",
        f"{DEPLOYMENT}/etc/hostname": b"",
        f"{DEPLOYMENT}/etc/fstab": b"UUID=boot /boot ext4 defaults 0 2\n",
        f"{DEPLOYMENT}/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:/bin/sh\n",
        f"{DEPLOYMENT}/etc/group": b"root:x:0:\nsudo:x:27:\nshadow:x:42:\n",
        f"{DEPLOYMENT}/etc/shadow": b"root:*:20000:0:99999:7:::\n",
        f"{DEPLOYMENT}/usr/share/zoneinfo/Europe/Berlin": b"TZif",
        "ostree/deploy/default/var/home/of-the-image": b"moves along\n",
        "ostree/deploy/default/deploy/0123.0.origin": b"[origin]\n",
        "ostree/repo/objects/aa/bb.file": b"\x7fELF object",
    }
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, aim in (("home", "var/home"), ("root", "var/roothome")):
        (target / DEPLOYMENT / name).symlink_to(aim)
    (target / "boot/loader").symlink_to("loader.1")
    (target / "boot/grub/grub.cfg").symlink_to("../loader/grub.cfg")
    shared = target / "ostree/repo/objects/aa/bb.file"
    (target / DEPLOYMENT / "usr/bin/linked").hardlink_to(shared)
    os.setxattr(shared, "user.kept", b"yes")
    os.chown(shared, 12, 34)
    shared.chmod(0o4755)


def core_image() -> bytes:
    core = bytearray(b"\xcc" * 30_000)
    struct.pack_into("<QHH", core, 0x1F4, 2, 0, 0x820)
    return bytes(core)
