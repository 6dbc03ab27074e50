"""The real thing: the base image installs itself to a raw disk and a qcow2."""

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.disk.layer_cache.layers import layer_shelf
from bootc_build.disk.plan import MACHINE_BYTES
from bootc_build.image.base_tree import copy_image_root
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools import e2fsprogs
from bootc_build.tools.buildah import image_exists, remove_image, working_container
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.mtools import FatVolume

BASE = "localhost/bootc-build-test/base:trixie"
TARGET = "registry.example/os:v1"

pytestmark = pytest.mark.base_image


@dataclass(frozen=True)
class Made:
    raw: Path
    qcow2: Path
    boot: Ext4Slot
    root: Ext4Slot
    esp: FatVolume

    def names(self, slot: Ext4Slot, folder: str) -> list[str]:
        said = run(["debugfs", "-R", f'ls -p "{folder}"', slot.device]).stdout
        found = re.findall(r"^/\d+/\d+/\d+/\d+/([^/]+)/", said, re.MULTILINE)
        return sorted(set(found) - {".", "..", "lost+found"})

    def entry(self) -> dict[str, str]:
        [name] = self.names(self.boot, "/loader.1/entries") or self.names(
            self.boot, "/loader.0/entries"
        )
        text = e2fsprogs.read_file(self.boot, f"/loader/entries/{name}")
        return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    if not image_exists(BASE):
        pytest.skip(f"{BASE} is not built; see: bootc-build base")
    request = DiskRequest(
        BASE,
        [DiskType.RAW, DiskType.QCOW2],
        tmp_path_factory.mktemp("base"),
        target=parse_target(TARGET),
        kargs=("quiet",),
    )
    paths = {disk.type: disk.path for disk in build_disk(request, Silent())}
    raw = paths[DiskType.RAW]
    table = json.loads(run(["sfdisk", "--json", str(raw)]).stdout)["partitiontable"]
    _bios, esp, boot, root = (
        (part["start"] * 512, part["size"] * 512) for part in table["partitions"]
    )
    return Made(
        raw,
        paths[DiskType.QCOW2],
        Ext4Slot(raw, *boot),
        Ext4Slot(raw, *root),
        FatVolume(raw, *esp, 0),
    )


@pytest.fixture
def current() -> Iterator[str]:
    """The base image with the agent of now."""
    if not image_exists(BASE):
        pytest.skip(f"{BASE} is not built; see: bootc-build base")
    tag = f"localhost/bootc-build-test/current-{secrets.token_hex(4)}:1"
    with working_container(BASE) as container:
        # With what was compiled of the one that it had.
        shutil.rmtree(container.mount() / "usr/lib/bootc/python")
        copy_image_root(container.mount())
        container.commit(tag)
    yield tag
    remove_image(tag)


def test_layers_from_the_cache_give_the_same_bytes(
    current: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    request = DiskRequest(
        current,
        [DiskType.RAW],
        tmp_path / "without",
        target=parse_target(TARGET),
        layer_cache=False,
    )
    [without] = build_disk(request, Silent())
    assert layer_shelf().things() == []
    for name in ("first", "second"):
        [made] = build_disk(replace(request, output=tmp_path / name, layer_cache=True), Silent())
        assert len(layer_shelf().things()) > 1
        assert made.sha256 == without.sha256
        made.path.unlink()


def uuid_of(slot: Ext4Slot) -> str:
    found = re.search(r"Filesystem UUID:\s+(\S+)", run(["dumpe2fs", "-h", slot.device]).stdout)
    assert found
    return found[1]


def test_boot_entry_names_the_root_and_a_kernel_that_is_there(made: Made) -> None:
    entry = made.entry()
    options = entry["options"].split()
    assert f"root=UUID={uuid_of(made.root)}" in options
    assert {"quiet", "console=tty0", "console=ttyS0,115200n8"} <= set(options)
    deployed = next(option for option in options if option.startswith("ostree="))
    link = deployed.removeprefix("ostree=")
    assert Path(link).name in made.names(
        made.root, str(Path(link).parent).replace("boot.1", "boot.1.1")
    )
    for key in ("linux", "initrd"):
        path = Path(entry[key].removeprefix("/boot"))
        assert path.name in made.names(made.boot, str(path.parent))


def test_menu_is_the_one_beside_the_entries(made: Made) -> None:
    link = run(["debugfs", "-R", "stat /grub/grub.cfg", made.boot.device]).stdout
    assert 'Fast link dest: "../loader/grub.cfg"' in link
    menu = e2fsprogs.read_file(made.boot, "/loader/grub.cfg")
    assert made.entry()["options"] in menu
    assert (
        uuid_of(made.boot)
        in run(["mtype", "-i", f"{made.raw}@@{made.esp.offset}", "::/EFI/debian/grub.cfg"]).stdout
    )
    assert {"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi"} <= set(made.esp.names())


def test_the_next_version_fits_beside_this_one_and_not_much_more(made: Made) -> None:
    said = run(["dumpe2fs", "-h", made.root.device]).stdout
    fields = {
        key: value.strip() for key, _, value in (each.partition(":") for each in said.splitlines())
    }
    blocks, free = int(fields["Block count"]), int(fields["Free blocks"])
    # Neither what libostree keeps free nor what is root's alone counts.
    usable = (free - int(fields["Reserved block count"]) - blocks * 3 // 100) * e2fsprogs.BLOCK
    used = (blocks - free - int(fields["Overhead clusters"])) * e2fsprogs.BLOCK
    assert 1.0 < (usable - MACHINE_BYTES) / used < 1.2


def test_host_follows_the_target(made: Made) -> None:
    deployments = "/ostree/deploy/default/deploy"
    [origin] = [name for name in made.names(made.root, deployments) if name.endswith(".origin")]
    text = e2fsprogs.read_file(made.root, f"{deployments}/{origin}")
    assert f"container-image-reference=ostree-unverified-registry:{TARGET}" in text
    deployment = f"{deployments}/{origin.removesuffix('.origin')}"
    table = e2fsprogs.read_file(made.root, f"{deployment}/etc/fstab")
    assert f"UUID={uuid_of(made.boot)} /boot ext4" in table
    flags = run(["debugfs", "-R", f"stat {deployment}", made.root.device]).stdout
    found = re.search(r"Flags: (0x[0-9a-f]+)", flags)
    assert found
    assert int(found[1], 16) & 0x10


def test_everything_is_sound(made: Made) -> None:
    for slot in (made.boot, made.root):
        run(["e2fsck", "-f", "-n", slot.device])
    run(["qemu-img", "check", str(made.qcow2)])
    run(["qemu-img", "compare", str(made.raw), str(made.qcow2)])
    assert sorted(path.name for path in made.raw.parent.iterdir()) == [
        "disk.manifest.json",
        "disk.qcow2",
        "disk.raw",
    ]
