import json
import tarfile
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.cli.main import main
from bootc_build.disk.lvm import EXTENT, Volume, VolumeGroup, write_group
from bootc_build.inspection.compare import Difference, compare
from bootc_build.inspection.disk import inspect_disk
from bootc_build.inspection.disk_file import opened
from bootc_build.inspection.document import document
from bootc_build.inspection.records import InspectedDisk
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.tools.sizes import GIB, MIB
from tests.inspection.small_disks import DEPLOYMENT, DIGEST, installed_tree, small_disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def found(disk: Path) -> InspectedDisk:
    return inspect_disk(disk)


def test_partitions_and_their_file_systems_are_listed(found: InspectedDisk) -> None:
    assert (found.format, found.disk_bytes, found.table) == ("raw", 3 * GIB, "gpt")
    told = [
        (part.name, part.purpose, part.start, part.file_system and part.file_system.kind)
        for part in found.partitions
    ]
    assert told == [
        ("bios-boot", "BIOS boot", MIB, None),
        ("esp", "EFI system", 2 * MIB, "vfat"),
        ("boot", "Linux data", 130 * MIB, "ext4"),
        ("root", "root (x86-64)", 1154 * MIB, "ext4"),
    ]
    root = found.partitions[3].file_system
    assert root is not None
    assert root.label == "root"
    assert root.used_bytes is not None
    assert MIB < root.used_bytes < 256 * MIB


def test_boot_entry_names_arguments_and_deployment(found: InspectedDisk) -> None:
    [entry] = found.boot_entries
    assert entry.title == "Small"
    assert entry.arguments[:2] == ("rw", "quiet")
    assert entry.deployment == DEPLOYMENT


def test_deployment_tells_image_digest_version_and_contents(found: InspectedDisk) -> None:
    [deployment] = found.deployments
    assert deployment.name == DEPLOYMENT
    assert deployment.image == "ostree-unverified-registry:registry.example/os:1"
    assert (deployment.digest, deployment.version) == (DIGEST, "7.1")
    assert deployment.contents.system == "Small OS 7"
    assert deployment.contents.kernels == ("6.12-small",)
    assert deployment.contents.packages == {"a": "1.0"}


def test_boot_loaders_are_reported_with_their_signers(found: InspectedDisk) -> None:
    programs = {each.path: each for each in found.secure_boot.programs}
    shim, grub = (programs[f"esp:/EFI/BOOT/{name}"] for name in ("BOOTX64.EFI", "grubx64.efi"))
    assert found.secure_boot.shim_trusts == ("Debian Secure Boot CA",)
    assert (shim.intact, shim.vouched_by) == (True, "firmware")
    assert any("Microsoft" in signature.issuer for signature in shim.signatures)
    assert (grub.intact, grub.vouched_by) == (True, "shim")
    assert [signature.issuer for signature in grub.signatures] == ["Debian Secure Boot CA"]
    assert "grub.debian" in grub.sbat


@pytest.mark.parametrize("kind", ["qcow2", "vpc", "ova"])
def test_every_format_holds_the_same_disk(
    kind: str, disk: Path, found: InspectedDisk, tmp_path: Path
) -> None:
    file = tmp_path / f"disk.{kind}"
    if kind == "ova":
        run(["qemu-img", "convert", "-O", "vmdk", str(disk), str(tmp_path / "inner")])
        with tarfile.open(file, "w") as archive:
            archive.add(tmp_path / "inner", "os.vmdk")
    else:
        run(["qemu-img", "convert", "-O", kind, str(disk), str(file)])
    other = document(inspect_disk(file))
    # A VHD's size is a whole number of cylinders.
    sections = {each.section for each in compare(document(found), other)}
    assert sections == ({"diskBytes"} if kind == "vpc" else set())
    assert other["format"] == {"vpc": "vhd", "ova": "tar of vmdk"}.get(kind, kind)


def test_a_compressed_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x01" * MIB + bytes(3 * MIB) + b"\x02" * 512 + bytes(MIB))
    archive = tmp_path / "disk.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.GNU_FORMAT) as members:
        members.add(disk, "disk.raw")
    with opened(archive) as found:
        assert found.format == "tar of raw"
        assert found.disk_bytes == disk.stat().st_size
        assert found.raw.read_bytes() == disk.read_bytes()
        assert found.raw.stat().st_blocks * 512 < 3 * MIB
    assert not found.raw.exists()


def test_only_what_differs_is_told(tmp_path: Path, found: InspectedDisk) -> None:
    other = document(inspect_disk(small_disk(tmp_path, version="1.1", karg="debug")))
    differences = compare(document(found), other)
    assert Difference("packages", "a", "1.0", "1.1") in differences
    assert Difference("bootEntries", "1 arguments", "quiet", None) in differences
    assert Difference("bootEntries", "1 arguments", None, "debug") in differences
    assert {each.section for each in differences} == {"packages", "bootEntries"}


def test_btrfs_root_is_read_too(tmp_path: Path) -> None:
    tree = tmp_path / "root"
    installed_tree(tree)
    part = tmp_path / "part"
    with part.open("xb") as file:
        file.truncate(256 * MIB)
    run(["mkfs.btrfs", "--quiet", "--rootdir", str(tree), str(part)])
    disk = tmp_path / "disk"
    with disk.open("xb") as file:
        file.truncate(258 * MIB)
    run(["sfdisk", "--quiet", str(disk)], input_text="label: gpt\nstart=2048, size=524288\n")
    run(["dd", f"if={part}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse"])
    found = inspect_disk(disk)
    assert found.partitions[0].file_system is not None
    assert found.partitions[0].file_system.kind == "btrfs"
    [entry] = found.boot_entries
    [deployment] = found.deployments
    assert entry.deployment == deployment.name == DEPLOYMENT
    assert deployment.digest == DIGEST
    assert deployment.contents.packages == {"a": "1.0"}
    assert found.notes == ()
    # All of it but the superblocks.
    with disk.open("r+b") as damaged:
        damaged.seek(MIB + 128 * 1024)
        damaged.write(b"\xa5" * 40 * MIB)
    found = inspect_disk(disk)
    assert found.deployments == ()
    assert any("The btrfs of partition 1 is not read" in n for n in found.notes)


def test_logical_volumes_are_listed_and_read(tmp_path: Path) -> None:
    tree, part, disk = tmp_path / "root", tmp_path / "part", tmp_path / "disk"
    installed_tree(tree)
    size, volume = 256 * MIB, 192 * MIB
    with part.open("xb") as file:
        file.truncate(volume)
    run(["mke2fs", "-q", "-t", "ext4", "-L", "r", "-d", str(tree), str(part)])
    with disk.open("xb") as file:
        file.truncate(size + 2 * MIB)
    kind = "e6d6d379-f507-44c2-a23c-238f2a3df928"
    table = f"label: gpt\nstart=2048, size={size // 512}, type={kind}\n"
    run(["sfdisk", "--quiet", str(disk)], input_text=table)
    volumes = [Volume("my-root", UUID(int=3), 0, volume // EXTENT), Volume("x", UUID(int=4), 48, 2)]
    write_group(VolumeGroup("vg-1", UUID(int=1), UUID(int=2), size, volumes, 0), disk, MIB)
    # The first MiB of the partition is LVM's own.
    run(["dd", f"if={part}", f"of={disk}", "bs=1M", "seek=2", "conv=notrunc,sparse"])
    found = inspect_disk(disk)
    told = [(each.path, each.size, each.file_system) for each in found.logical_volumes]
    [(path, length, inside), empty] = told
    assert (path, length, empty) == ("vg-1/my-root", volume, ("vg-1/x", 2 * EXTENT, None))
    assert inside is not None
    assert (inside.kind, inside.label) == ("ext4", "r")
    [deployment] = found.deployments
    assert deployment.contents.packages == {"a": "1.0"}
    assert found.notes == ()


def test_a_group_that_cannot_be_put_together_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("xb") as file:
        file.truncate(66 * MIB)
    run(["sfdisk", "--quiet", str(disk)], input_text="label: gpt\nstart=2048, size=131000\n")
    group = VolumeGroup("vg", UUID(int=1), UUID(int=2), 60 * MIB, [], 0)
    write_group(group, disk, MIB)
    found = inspect_disk(disk)
    assert any("logical volumes of partition 1 are not read" in note for note in found.notes)


@pytest.mark.parametrize("name", ["os:v1.raw", "-x.raw", "a?b.raw", "a@@b.raw", "a b,(1)'.raw"])
def test_any_name_will_do(
    name: str, disk: Path, found: InspectedDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).symlink_to(disk)
    monkeypatch.chdir(tmp_path)
    again = inspect_disk(Path(name))
    assert again.notes == ()
    assert compare(document(found), document(again)) == ()


def test_what_is_no_disk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.raw"
    file.write_text("no disk " * 1000)
    with pytest.raises(UserError, match="has no partition table"):
        inspect_disk(file)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        inspect_disk(tmp_path / "absent.raw")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(file, "notes")
    with pytest.raises(UserError, match="There is no disk in the archive"):
        inspect_disk(tmp_path / "a.tar.gz")


def test_command_prints_for_people_and_for_machines(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--packages", str(disk)]) == 0
    said = capsys.readouterr().out
    assert f"digest      {DIGEST}" in said
    assert "    a 1.0" in said
    assert "issued by 'Debian Secure Boot CA'" in said
    assert main(["inspect", "--format", "json", str(disk)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["deployments"][0]["contents"]["packages"] == {"a": "1.0"}
    assert (data["version"], data["kind"]) == (1, "disk")
    other = small_disk(tmp_path, version="2.0")
    assert main(["diff", str(disk), str(other), "--exit-code"]) == 1
    assert "  ~ a: 1.0 -> 2.0" in capsys.readouterr().out
    assert main(["diff", str(disk), str(disk), "--exit-code"]) == 0
    assert capsys.readouterr().out == ""
