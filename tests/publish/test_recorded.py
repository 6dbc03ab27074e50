"""A disk that is not as it was built is not published; the manifest beside it tells."""

import hashlib
import json
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.disk.deliver import Provenance, WrittenDisk, manifest
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Silent
from bootc_build.publish.ami import plan_ami, publish_ami
from bootc_build.publish.ami_plan import AmiRequest
from bootc_build.publish.blocks import map_blocks
from tests.publish.aws_proxy import AwsProxy
from tests.publish.conftest import BLOCK, MIB, REGION, USED

IN_A_HOLE, IN_DATA = 300 * BLOCK + 5, USED[4] * BLOCK + 4100


def write_manifest(disk: Path, *, file: str = "") -> Path:
    """The manifest of a disk as it is now, as a build writes it."""
    size = disk.stat().st_size
    with disk.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    written = WrittenDisk(
        DiskType.AMI, disk.with_name(file or disk.name), size, size, size, sha256=sha256
    )
    path = disk.with_name("disk.manifest.json")
    path.write_text(manifest(Provenance("os:1", "1", "sha256:1", "os:1"), [written]))
    return path


@pytest.mark.parametrize("place", [IN_A_HOLE, IN_DATA])
def test_disk_that_was_damaged_after_the_build_is_refused(
    request_: AmiRequest, aws: AwsProxy, place: int
) -> None:
    beside = write_manifest(request_.disk)
    with request_.disk.open("r+b") as file:
        file.seek(place)
        file.write(b"\x55")
    for act in (publish_ami, plan_ami):
        with pytest.raises(UserError) as caught:
            act(request_, Silent())
        assert f"'{request_.disk}' is not as it was built" in caught.value.fact
        assert f"'{beside}' says {json.loads(beside.read_text())['disks'][0]['sha256']}" in (
            caught.value.fact
        )
    assert aws.actions() == []
    assert sorted(request_.disk.parent.iterdir()) == [request_.disk, beside]


def test_disk_that_lost_its_end_is_refused_before_it_is_read(
    request_: AmiRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = write_manifest(request_.disk)
    text = beside.read_text()
    beside.write_text(text.replace(str(1024 * MIB), str(1025 * MIB)))
    monkeypatch.setattr("bootc_build.publish.ami.map_blocks", None)
    with pytest.raises(UserError, match=f"has {1024 * MIB} bytes; when it was built.*{1025 * MIB}"):
        plan_ami(request_, Silent())


def test_manifest_that_cannot_be_read_is_named(request_: AmiRequest) -> None:
    beside = write_manifest(request_.disk)
    for text in ("{", '{"disks": [{}]}', "[]"):
        beside.write_text(text)
        with pytest.raises(UserError, match="cannot be read") as caught:
            plan_ami(request_, Silent())
        assert str(beside) in caught.value.fact


def test_disk_as_it_was_built_is_published(request_: AmiRequest) -> None:
    write_manifest(request_.disk)
    assert list(publish_ami(request_, Silent()).images) == [REGION]


def test_dry_run_says_whether_the_disk_was_compared(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["publish", "ami", str(request_.disk), "--name", request_.name, "--region", REGION]
    arguments += ["--endpoint-url", aws.url, "--dry-run"]
    assert main(arguments) == 0
    assert "no manifest with its checksum lies beside it" in capsys.readouterr().out
    beside = write_manifest(request_.disk, file="other.raw")
    assert main(arguments) == 0
    assert "no manifest with its checksum lies beside it" in capsys.readouterr().out
    write_manifest(request_.disk)
    assert main(arguments) == 0
    assert f"it has the checksum in {beside}\n" in capsys.readouterr().out
    assert main([*arguments, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"] == str(beside)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 7, 40 * MIB + 1])
def test_checksum_of_the_file_is_made_while_its_blocks_are_found(tmp_path: Path, size: int) -> None:
    file = tmp_path / "disk.raw"
    with file.open("xb") as content:
        for place in (0, size // 3, size - 1):
            content.seek(place)
            content.write(b"\x01")
        content.truncate(size)
    found = map_blocks(file, hash_file=True)
    assert found.file_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    empty = tmp_path / "empty"
    with empty.open("xb") as content:
        content.truncate(size)
    found = map_blocks(empty, hash_file=True)
    assert (found.file_sha256, found.blocks) == (hashlib.sha256(bytes(size)).hexdigest(), ())
