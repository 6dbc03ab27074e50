import gzip
import hashlib
import json
import os
import random
import re
import shutil
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest

from bootc_build.disk.formats import (
    Compression,
    DiskType,
    FormatOptions,
    copy_sparse,
    size_unit,
    write_formats,
)
from bootc_build.disk.identity import Identity
from bootc_build.disk.ovf import Appliance, descriptor, write_ova
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools.sizes import GIB, MIB

SIZE = 64 * MIB
TIME = 1_700_000_000
OPTIONS = FormatOptions(tuple(DiskType), "os", Compression.ZSTD, Identity("seed"), TIME)
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def write_disk(path: Path, *, size: int = SIZE) -> Path:
    """A disk with some data at its begin, in its middle and at its end, and zeros that are stored."""
    content = random.Random(1)  # noqa: S311 - any bytes do
    with path.open("xb") as disk:
        disk.truncate(size)
        for at, length in ((0, 3 * MIB), (size // 2 + 512, 700_000), (size - 4096, 4096)):
            disk.seek(at)
            disk.write(content.randbytes(length))  # no compressor makes it smaller
        disk.seek(size // 4)
        disk.write(bytes(5 * MIB))
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disk(tmp_path_factory.mktemp("raw") / "any.raw")


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[DiskType, Path]:
    """Every type from one disk."""
    return make(raw, tmp_path_factory.mktemp("made"))


def make(raw: Path, folder: Path, options: FormatOptions = OPTIONS) -> dict[DiskType, Path]:
    # The raw disk given is used up.
    own = folder / "own.raw"
    copy_sparse(raw, own)
    (folder / "out").mkdir()
    return write_formats(own, folder / "out", options, Silent())


@pytest.fixture
def members(made: dict[DiskType, Path], tmp_path: Path) -> Iterator[Path]:
    """What is in the appliance."""
    run(["tar", "--extract", "--file", str(made[DiskType.OVA]), "--directory", str(tmp_path)])
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_every_type_has_a_file_of_its_name_and_nothing_else_is_left(
    made: dict[DiskType, Path],
) -> None:
    assert {kind.value: file.name for kind, file in made.items()} == {
        "raw": "os.raw",
        "qcow2": "os.qcow2",
        "ami": "os.ami.raw",
        "vmdk": "os.vmdk",
        "vhd": "os.vhd",
        "gce": "os.gce.tar.gz",
        "ova": "os.ova",
    }
    there = {path for path in made[DiskType.RAW].parent.rglob("*") if path.is_file()}
    assert there == set(made.values())


@pytest.mark.parametrize(
    ("kind", "qemu_name"), [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vhd", "vpc"), ("ami", "raw")]
)
def test_qemu_img_finds_it_sound_and_the_same_disk(
    made: dict[DiskType, Path], raw: Path, kind: str, qemu_name: str
) -> None:
    file = made[DiskType(kind)]
    if kind in {"qcow2", "vmdk"}:
        run(["qemu-img", "check", "-f", qemu_name, str(file)])
    run(["qemu-img", "compare", "-f", "raw", "-F", qemu_name, str(raw), str(file)])


@pytest.mark.parametrize("compression", list(Compression))
def test_qcow2_is_compressed_as_asked(raw: Path, tmp_path: Path, compression: Compression) -> None:
    options = replace(OPTIONS, types=(DiskType.QCOW2,), compression=compression)
    file = make(raw, tmp_path, options)[DiskType.QCOW2]
    data = json.loads(run(["qemu-img", "info", "--output=json", str(file)]).stdout)
    kind = data["format-specific"]["data"]["compression-type"]
    assert kind == ("zlib" if compression is Compression.NONE else compression.value)
    checked = json.loads(run(["qemu-img", "check", "--output=json", str(file)]).stdout)
    assert bool(checked.get("compressed-clusters")) == (compression is not Compression.NONE)


def test_vmdk_is_stream_optimized(made: dict[DiskType, Path]) -> None:
    info = json.loads(run(["qemu-img", "info", "--output=json", str(made[DiskType.VMDK])]).stdout)
    assert info["format-specific"]["data"]["create-type"] == "streamOptimized"
    assert (
        info["format-specific"]["data"]["cid"]
        == OPTIONS.identity.uuid("vmdk").int % (0xFFFFFFFD) + 1
    )


def test_vhd_is_fixed_with_its_true_size_and_a_right_checksum(made: dict[DiskType, Path]) -> None:
    file = made[DiskType.VHD]
    assert file.stat().st_size == SIZE + 512
    with file.open("rb") as disk:
        disk.seek(-512, os.SEEK_END)
        footer = disk.read()
    (time,) = struct.unpack_from(">I", footer, 24)
    assert time + 946_684_800 == TIME
    (original, current) = struct.unpack_from(">QQ", footer, 40)
    assert original == current == SIZE
    assert struct.unpack_from(">I", footer, 60) == (2,)  # fixed
    assert UUID(bytes=footer[68:84]) == OPTIONS.identity.uuid("vhd")
    summed = sum(footer) - sum(footer[64:68])
    assert struct.unpack_from(">I", footer, 64) == (~summed & 0xFFFFFFFF,)


def test_gce_archive_has_one_sparse_member_of_the_old_gnu_format(
    made: dict[DiskType, Path], raw: Path, tmp_path: Path
) -> None:
    file = made[DiskType.GCE]
    assert file.read_bytes()[4:8] == bytes(4)  # gzip's time
    with gzip.open(file) as archive:
        header = archive.read(512)
    assert header[257:265] == b"ustar  \0"  # oldgnu; ustar and pax have "ustar\0" and a version
    assert header[156:157] == b"S"
    with tarfile.open(file) as archive:
        [member] = archive.getmembers()
        assert (member.name, member.size, member.mtime) == ("disk.raw", SIZE, TIME)
        assert (member.uid, member.gid, member.uname) == (0, 0, "")
    run(["tar", "--extract", "--file", str(file), "--directory", str(tmp_path)])
    run(["cmp", str(raw), str(tmp_path / "disk.raw")])


def test_appliance_has_descriptor_manifest_and_disk_in_this_order(
    made: dict[DiskType, Path], members: Path
) -> None:
    with tarfile.open(made[DiskType.OVA]) as archive:
        assert archive.getnames() == ["os.ovf", "os.mf", "os.vmdk"]
        assert {member.mtime for member in archive} == {TIME}
    assert made[DiskType.OVA].read_bytes()[257:265] == b"ustar\x0000"
    assert (members / "os.vmdk").read_bytes() == made[DiskType.VMDK].read_bytes()
    stated = re.findall(
        r"^SHA256\((.+)\)= (\w{64})$", (members / "os.mf").read_text(), re.MULTILINE
    )
    assert dict(stated) == {
        name: hashlib.sha256((members / name).read_bytes()).hexdigest()
        for name in ("os.ovf", "os.vmdk")
    }


def test_appliances_descriptor_is_consistent(members: Path) -> None:
    root = ET.parse(members / "os.ovf").getroot()  # noqa: S314 - our own
    [file] = root.iter(f"{OVF}File")
    [disk] = root.iter(f"{OVF}Disk")
    assert file.get(f"{OVF}href") == "os.vmdk"
    assert int(file.get(f"{OVF}size", "")) == (members / "os.vmdk").stat().st_size
    assert disk.get(f"{OVF}fileRef") == file.get(f"{OVF}id")
    assert int(disk.get(f"{OVF}capacity", "")) == SIZE
    assert disk.get(f"{OVF}format", "").endswith("#streamOptimized")
    items: dict[str | None, dict[str, str | None]] = {}
    for item in root.iter(f"{OVF}Item"):
        values = {child.tag.removeprefix(RASD): child.text for child in item}
        items[values["InstanceID"]] = values
    [drive] = [item for item in items.values() if item["ResourceType"] == "17"]
    assert drive["HostResource"] == f"ovf:/disk/{disk.get(f'{OVF}diskId')}"
    assert items[drive["Parent"]]["ResourceType"] == "20"


def judge(ovf: Path) -> str:
    """What the schema says against a descriptor; empty for nothing."""
    schema = Path(__file__).parent / "ovf_schema/envelope.xsd"
    command = ["xmllint", "--nonet", "--noout", "--schema", str(schema), str(ovf)]
    done = run(command, check=False)
    assert (done.status == 0) == done.stderr.endswith(" validates\n")
    return "" if done.status == 0 else done.stderr


def test_appliances_descriptor_is_as_the_schema_has_it(members: Path) -> None:
    assert judge(members / "os.ovf") == ""


# What is replaced in a descriptor, by what, and what the schema says of it.
AGAINST_THE_SCHEMA = {
    "order of sections": (r"(?s)( *<References>.*</References>\n)(.*</DiskSection>\n)", r"\2\1", "References"),
    "order of an item": (r"(?s)(<rasd:ElementName>[^\n]*)(\s*)(<rasd:InstanceID>[^\n]*)", r"\3\2\1", "InstanceID"),
    "item without an id": (r"<rasd:InstanceID>1</rasd:InstanceID>", "", "ElementName|ResourceType"),
    "system without a name": (r"<vssd:ElementName>.*</vssd:ElementName>", "", "InstanceID"),
    "two items of one id": (r"<rasd:InstanceID>2<", "<rasd:InstanceID>1<", "Duplicate key"),
    "parent that is none": (r"<rasd:Parent>3<", "<rasd:Parent>9<", "parentOfItem"),
    "no such network": (r"<rasd:Connection>network<", "<rasd:Connection>net<", "networkOfItem"),
    "no such file": (r'ovf:fileRef="file1"', 'ovf:fileRef="file2"', "fileOfDisk"),
    "capacity that is no number": (r'ovf:capacity="', 'ovf:capacity="x', "capacity"),
    "section without words": (r"<Info>Virtual disks</Info>", "", "Info"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"), AGAINST_THE_SCHEMA.values(), ids=AGAINST_THE_SCHEMA
)
def test_the_schema_finds_what_is_wrong_with_a_descriptor(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = descriptor(Appliance("os", GIB, 4, UUID(int=1)))
    broken = re.sub(old, new, text)
    assert broken != text
    (tmp_path / "os.ovf").write_text(broken)
    assert re.search(said, judge(tmp_path / "os.ovf"))


def test_a_name_cannot_break_the_descriptor(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"disk")
    appliance = Appliance('a&b"<c', GIB, 4, UUID(int=1))
    write_ova(appliance, tmp_path / "disk", tmp_path / "ova", TIME)
    with tarfile.open(tmp_path / "ova") as archive:
        text = archive.extractfile('a&b"<c.ovf')
        assert text is not None
        root = ET.parse(text).getroot()  # noqa: S314 - our own
    [file] = root.iter(f"{OVF}File")
    assert file.get(f"{OVF}href") == 'a&b"<c.vmdk'


def test_a_disk_that_no_appliance_can_hold_is_refused(tmp_path: Path) -> None:
    appliance = Appliance("big", 100 * GIB, 8 * GIB, UUID(int=1))
    with pytest.raises(UserError, match="does not fit into an appliance") as refused:
        write_ova(appliance, tmp_path / "disk", tmp_path / "ova", TIME)
    assert "--type vmdk" in refused.value.remedy
    assert not (tmp_path / "ova").exists()


def test_the_same_disk_makes_the_same_bytes_however_it_is_stored(
    made: dict[DiskType, Path], raw: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.raw"
    run(["cp", "--sparse=always", str(raw), str(other)])
    assert other.stat().st_blocks < raw.stat().st_blocks
    os.utime(other, (1, 1))
    (tmp_path / "out").mkdir()
    again = write_formats(other, tmp_path / "out", OPTIONS, Silent())
    differing = [
        kind.value
        for kind, file in again.items()
        if run(["cmp", str(file), str(made[kind])], check=False).status != 0
    ]
    assert differing == []


def test_other_identities_make_other_files(
    made: dict[DiskType, Path], raw: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, types=(DiskType.VMDK, DiskType.VHD), identity=Identity("other"))
    for kind, file in make(raw, tmp_path, options).items():
        assert run(["cmp", str(file), str(made[kind])], check=False).status == 1


def test_a_copy_keeps_the_holes(raw: Path, made: dict[DiskType, Path]) -> None:
    copy = made[DiskType.AMI]
    assert copy.stat().st_ino != made[DiskType.RAW].stat().st_ino
    assert copy.stat().st_blocks <= raw.stat().st_blocks < SIZE // 512
    run(["cmp", str(raw), str(copy)])


@pytest.mark.parametrize(
    ("types", "unit"),
    [(["raw", "qcow2", "vmdk", "vhd", "ova"], 1), (["raw", "gce"], GIB), (["ami"], GIB)],
)
def test_clouds_want_whole_gib(types: list[str], unit: int) -> None:
    assert size_unit([DiskType(kind) for kind in types]) == unit
