"""Disks of a few MB that are laid out as installed ones are, for tests of seconds."""

import json
import shutil
from pathlib import Path

from gi.repository import GLib

from bootc_build.disk import trees
from bootc_build.disk.assemble import write_raw_disk
from bootc_build.disk.identity import Identity
from bootc_build.disk.plan import plan_disk
from bootc_build.onhost.progress import Silent
from bootc_build.tools.sizes import GIB
from tests.disk.installed_trees import make_installed_tree

COMMIT = "c0ffee" + "0" * 58
NAME = f"{COMMIT}.0"
DEPLOYMENT = f"default/{NAME}"
DIGEST = "sha256:" + "d" * 64
BOOT_LINK = "ostree/boot.1/default/abc/0"
SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
_OCI = "application/vnd.oci.image"
_LAYER = "sha256:" + "f" * 64
_MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"mediaType": f"{_OCI}.config.v1+json", "digest": _LAYER, "size": 2},
        "layers": [{"mediaType": f"{_OCI}.layer.v1.tar", "digest": _LAYER, "size": 2}],
    }
)
_CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_LAYER]},
        "config": {"Labels": {"org.opencontainers.image.version": "7.1"}},
    }
)
_FILES = {
    "usr/lib/os-release": 'NAME=Small\nPRETTY_NAME="Small OS 7"\n',
    "usr/lib/modules/6.12-small/vmlinuz": "kernel",
    "usr/lib/sysimage/dpkg/status": "Package: a\nStatus: install ok installed\nVersion: {a}\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 9\n",
}


def installed_tree(target: Path, *, version: str = "1.0", karg: str = "quiet") -> None:
    """Lay down what `bootc install` leaves: a deployment of a system with the package ``a`` in a version."""
    target.mkdir(parents=True)
    make_installed_tree(target)
    place = target / "ostree/deploy/default/deploy" / NAME
    for name, text in _FILES.items():
        _write(place / name, text.format(a=version).encode())
    origin = (
        "[origin]\ncontainer-image-reference=ostree-unverified-registry:registry.example/os:1\n"
    )
    _write(place.with_name(f"{NAME}.origin"), origin.encode())
    link = target / "ostree/boot.1.1/default/abc/0"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../../deploy/default/deploy/{NAME}")
    (target / "ostree/boot.1").symlink_to("boot.1.1")
    _write(target / f"ostree/repo/objects/{COMMIT[:2]}/{COMMIT[2:]}.commit", _commit())
    entry = f"title Small\nversion 1\nlinux /boot/k\noptions rw {karg} ostree=/{BOOT_LINK}\n"
    _write(target / "boot/loader.1/entries/ostree-1.conf", entry.encode())
    for source, name in ((SHIM, "BOOTX64.EFI"), (GRUB, "grubx64.efi")):
        shutil.copyfile(source, target / "boot/efi/EFI/BOOT" / name)


def small_disk(folder: Path, *, version: str = "1.0", karg: str = "quiet") -> Path:
    """A raw disk with such a tree, made as `bootc-build disk` makes it."""
    tree = folder / "root"
    installed_tree(tree, version=version, karg=karg)
    apart = trees.split(tree)
    settled = trees.settle(apart, 1_700_000_000)
    plan = plan_disk(
        Identity.derive(DIGEST, {}), settled.contents, timestamp=1_700_000_000, size=3 * GIB
    )
    disk = folder / "disk.raw"
    write_raw_disk(plan, settled, disk, Silent())
    return disk


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _commit() -> bytes:
    metadata = {
        "ostree.manifest-digest": GLib.Variant("s", DIGEST),
        "ostree.manifest": GLib.Variant("s", _MANIFEST),
        "ostree.container.image-config": GLib.Variant("s", _CONFIG),
    }
    commit = GLib.Variant(
        "(a{sv}aya(say)sstayay)", (metadata, [], [], "", "", 0, bytes(32), bytes(32))
    )
    return bytes(commit.get_data_as_bytes().get_data())
