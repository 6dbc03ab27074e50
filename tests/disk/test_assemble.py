import hashlib
import json
import os
import re
import shutil
import struct
from pathlib import Path

import pytest

from bootc_build.disk import trees
from bootc_build.disk.assemble import slot, write_raw_disk
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.plan import DiskPlan, plan_disk
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools import e2fsprogs
from bootc_build.tools.mtools import FatVolume
from bootc_build.tools.sizes import GIB
from tests.disk.installed_trees import DEPLOYMENT, KERNEL, core_image, make_installed_tree

TIMESTAMP = 1_700_000_000
IDENTITY = Identity.derive("sha256:" + "a" * 64, {})


def assemble(folder: Path) -> tuple[Path, DiskPlan]:
    target = folder / "root"
    target.mkdir(parents=True)
    make_installed_tree(target)
    apart = trees.split(target)
    settled = trees.settle(apart, TIMESTAMP)
    plan = plan_disk(IDENTITY, settled.contents, timestamp=TIMESTAMP, size=3 * GIB)
    disk = folder / "disk.raw"
    write_raw_disk(plan, settled, disk, Silent())
    return disk, plan


def sha256(disk: Path) -> str:
    """Digest of what is not a hole, with its places."""
    digest = hashlib.sha256()
    with disk.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            digest.update(f"{start}-{end} of {size}".encode())
            digest.update(os.pread(file.fileno(), end - start, start))
    return digest.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DiskPlan]:
    return assemble(tmp_path_factory.mktemp("disk"))


def debugfs(made: tuple[Path, DiskPlan], role: Role, command: str) -> str:
    disk, plan = made
    return run(["debugfs", "-R", command, slot(disk, plan.partition(role)).device]).stdout


def test_partition_table_is_what_was_planned(made: tuple[Path, DiskPlan]) -> None:
    disk, plan = made
    table = json.loads(run(["sfdisk", "--json", str(disk)]).stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert table["id"].lower() == str(IDENTITY.uuid("disk"))
    found = [
        (part["start"], part["size"], part["type"].lower(), part["uuid"].lower(), part["name"])
        for part in table["partitions"]
    ]
    assert found == [
        (part.start_sector, part.sectors, str(part.type_guid), str(part.guid), part.role.value)
        for part in plan.partitions
    ]
    assert "No errors detected" in run(["sfdisk", "--verify", str(disk)]).stdout


@pytest.mark.parametrize("role", [Role.BOOT, Role.ROOT])
def test_file_systems_are_sound(made: tuple[Path, DiskPlan], role: Role) -> None:
    disk, plan = made
    run(["e2fsck", "-f", "-n", slot(disk, plan.partition(role)).device])


def test_file_systems_have_the_planned_uuids_and_later_needs(made: tuple[Path, DiskPlan]) -> None:
    for role, uuid in ((Role.BOOT, IDENTITY.boot_uuid), (Role.ROOT, IDENTITY.root_uuid)):
        header = debugfs(made, role, "stats -h")
        assert f"Filesystem UUID:          {uuid}" in header
        assert re.search(r"Filesystem features:.* verity", header)


def test_boot_has_kernel_and_entries_and_root_has_an_empty_mount_point(
    made: tuple[Path, DiskPlan],
) -> None:
    disk, plan = made
    boot = slot(disk, plan.partition(Role.BOOT))
    assert "root=UUID=x" in e2fsprogs.read_file(boot, "/loader/entries/ostree-1.conf")
    kernel = Path(KERNEL.removeprefix("boot"))
    assert f"/{kernel.name}/" in debugfs(made, Role.BOOT, f"ls -p {kernel.parent}")
    assert re.findall(r"/\d+/\d+/\d+/\d+/([^/]+)/", debugfs(made, Role.ROOT, "ls -p /boot")) == [
        ".",
        "..",
    ]
    assert "/efi/" in debugfs(made, Role.BOOT, "ls -p /")


def test_hard_links_owners_modes_and_attributes_are_kept(made: tuple[Path, DiskPlan]) -> None:
    linked, shared = (
        debugfs(made, Role.ROOT, f"stat {path}")
        for path in (f"/{DEPLOYMENT}/usr/bin/linked", "/ostree/repo/objects/aa/bb.file")
    )
    assert linked == shared
    assert re.search(r"Links: 2", shared)
    assert re.search(r"Mode:\s+04755", shared)
    assert re.search(r"User:\s+12\s+Group:\s+34", shared)
    assert 'user.kept (3) = "yes"' in shared


def test_only_deployment_roots_are_immutable(made: tuple[Path, DiskPlan]) -> None:
    def flags(path: str) -> int:
        found = re.search(r"Flags: (0x[0-9a-f]+)", debugfs(made, Role.ROOT, f"stat {path}"))
        assert found
        return int(found[1], 16)

    assert flags(f"/{DEPLOYMENT}") & 0x10
    assert flags(f"/{DEPLOYMENT}") & 0x80000  # extents: the other flags stay
    for path in (f"/{DEPLOYMENT}/etc", f"/{DEPLOYMENT}.origin", "/ostree/deploy"):
        assert not flags(path) & 0x10


def test_firmware_finds_the_boot_loader_on_the_esp(made: tuple[Path, DiskPlan]) -> None:
    disk, plan = made
    place = plan.partition(Role.ESP)
    volume = FatVolume(disk, place.start, place.size, TIMESTAMP)
    assert volume.names() == [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/BOOT/grubx64.efi",
        "EFI/debian/grub.cfg",
    ]
    with disk.open("rb") as file:
        file.seek(place.start)
        sector = file.read(512)
    assert sector[82:90] == b"FAT32   "
    assert struct.unpack_from("<I", sector, 67) == (IDENTITY.esp_serial,)


def test_first_sector_leads_to_core_image(made: tuple[Path, DiskPlan]) -> None:
    disk, plan = made
    place = plan.partition(Role.BIOS_BOOT)
    with disk.open("rb") as file:
        data = file.read(place.start + place.size)
    assert data[:2] == b"\xeb\x63"
    assert data[510:512] == b"\x55\xaa"
    assert data[450] == 0xEE  # the protective partition survived
    (sector,) = struct.unpack_from("<Q", data, 0x5C)
    assert sector == place.start_sector
    found = data[sector * 512 :][:30_000]
    assert found[0x200:] == core_image()[0x200:]


def test_disk_file_is_sparse(made: tuple[Path, DiskPlan]) -> None:
    disk, plan = made
    status = disk.stat()
    assert status.st_size == plan.size
    assert status.st_blocks * 512 < 64 * 1024 * 1024


def test_same_input_makes_the_same_bytes(made: tuple[Path, DiskPlan], tmp_path: Path) -> None:
    disk, _plan = made
    again, _plan = assemble(tmp_path)
    assert sha256(disk) == sha256(again)


def test_what_is_said_to_be_written_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    make_installed_tree(tmp_path / "root")
    apart = trees.split(tmp_path / "root")
    settled = trees.settle(apart, TIMESTAMP)
    plan = plan_disk(IDENTITY, settled.contents, timestamp=TIMESTAMP, size=3 * GIB)
    disk = tmp_path / "disk.raw"
    said: list[tuple[int, bytes]] = []

    def front(end: int) -> bytes:
        with disk.open("rb") as file:
            return hashlib.sha256(file.read(end)).digest()

    write_raw_disk(
        plan, settled, disk, Silent(), on_written=lambda end: said.append((end, front(end)))
    )
    ends = [end for end, _ in said]
    assert ends[0] == plan.partition(Role.ROOT).start
    assert len(ends) > 1
    assert ends == sorted(ends)
    for end, digest in said:
        assert front(end) == digest


def test_a_boot_file_system_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    make_installed_tree(tmp_path / "root")
    apart = trees.split(tmp_path / "root")
    settled = trees.settle(apart, TIMESTAMP)
    plan = plan_disk(IDENTITY, settled.contents, timestamp=TIMESTAMP, size=3 * GIB)
    # GRUB's images are written before the file system is made.
    for name in ("core_image", "boot_image"):
        image = getattr(apart, name)().rename(tmp_path / name)
        monkeypatch.setattr(trees.Trees, name, lambda _self, image=image: image)
    shutil.rmtree(apart.boot)
    with pytest.raises(FileNotFoundError):
        write_raw_disk(plan, settled, tmp_path / "disk.raw", Silent())
