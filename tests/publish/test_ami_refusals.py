"""What is known to go wrong before the first byte is uploaded."""

import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.progress import Silent
from bootc_build.publish.ami import plan_ami, publish_ami
from bootc_build.publish.ami_plan import AmiRequest
from bootc_build.publish.architecture import disk_architecture
from bootc_build.publish.aws import Access
from tests.publish.aws_proxy import AwsProxy
from tests.publish.conftest import BLOCK, READ_ONLY, REGION, client


def refused(request: AmiRequest, aws: AwsProxy) -> UserError:
    """The refusal, after which nothing has changed at AWS or on disk."""
    before = sorted(request.disk.parent.iterdir())
    with pytest.raises(UserError) as error:
        publish_ami(request, Silent())
    assert set(aws.actions()) <= READ_ONLY
    assert sorted(request.disk.parent.iterdir()) == before
    return error.value


def test_a_name_that_is_taken(request_: AmiRequest, aws: AwsProxy) -> None:
    taken = client(aws, "ec2").register_image(Name=request_.name)["ImageId"]
    aws.calls.clear()
    assert taken in refused(request_, aws).fact


def test_a_name_that_is_taken_where_a_copy_goes(disk: Path, name: str, aws: AwsProxy) -> None:
    client(aws, "ec2", "us-east-1").register_image(Name=name)
    aws.calls.clear()
    access = Access(endpoint=aws.url)
    request = AmiRequest(disk, name, REGION, copy_to=("us-east-1",), access=access)
    assert "in us-east-1 already" in refused(request, aws).fact


@pytest.mark.parametrize("region", ["mars-north-1", "eu-central-9"])
def test_a_region_that_is_none(disk: Path, name: str, aws: AwsProxy, region: str) -> None:
    request = AmiRequest(disk, name, REGION, copy_to=(region,), access=Access(endpoint=aws.url))
    error = refused(request, aws)
    assert region in error.fact
    assert REGION in error.remedy


@pytest.mark.parametrize(
    ("action", "code", "remedy"),
    [
        ("GetCallerIdentity", "InvalidClientTokenId", "aws sts get-caller-identity"),
        ("GetCallerIdentity", "ExpiredToken", "aws sts get-caller-identity"),
        ("DescribeRegions", "UnauthorizedOperation", "IAM policy"),
        ("DescribeImages", "UnauthorizedOperation", "IAM policy"),
        ("RegisterImage(trial)", "UnauthorizedOperation", "IAM policy"),
    ],
)
def test_what_is_not_allowed(
    request_: AmiRequest, aws: AwsProxy, action: str, code: str, remedy: str
) -> None:
    aws.fail(action, "refuse", times=99, code=code)
    error = refused(request_, aws)
    assert action.removesuffix("(trial)") in error.fact
    assert remedy in error.remedy


def test_a_trial_that_says_nothing_is_told(request_: AmiRequest, aws: AwsProxy) -> None:
    aws.fail("RegisterImage(trial)", "refuse", code="InvalidSnapshot.NotFound")
    [note] = plan_ami(request_, Silent()).notes
    assert "RegisterImage is allowed is not known" in note


def test_no_credentials(
    request_: AmiRequest, aws: AwsProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, str(tmp_path / "none"))
    assert "There are no credentials" in refused(request_, aws).fact
    assert aws.calls == []


def test_nobody_there(request_: AmiRequest, aws: AwsProxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = refused(replace(request_, access=Access(endpoint=nowhere)), aws)
    assert "AWS was not reached" in error.fact
    assert "does this region exist" in error.remedy


def test_no_boto3(request_: AmiRequest, aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "python3-boto3" in refused(request_, aws).remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"QFI\xfb" + bytes(4096), "no raw disk"),
        (bytes(100), "no raw disk"),
        (None, "cannot be read"),
    ],
)
def test_a_disk_that_is_none(
    tmp_path: Path, name: str, aws: AwsProxy, content: bytes | None, said: str
) -> None:
    disk = tmp_path / "disk"
    if content is not None:
        disk.write_bytes(content)
    error = refused(AmiRequest(disk, name, REGION, access=Access(endpoint=aws.url)), aws)
    assert said in error.fact
    assert "bootc-build disk IMAGE --type ami" in error.remedy
    assert aws.calls == []


def _first_copy_gone(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(512 + 84)
        file.write(bytes(4))


def _second_copy_gone(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))


def _both_gone(disk: Path) -> None:
    _first_copy_gone(disk)
    _second_copy_gone(disk)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda disk: os.truncate(disk, 700 * 1024 * 1024), "cut short: it has 700 MiB"),
        (lambda disk: os.truncate(disk, 540), "neither of its two copies is whole"),
        (_first_copy_gone, "first copy of the partition table (GPT) is damaged"),
        (_second_copy_gone, "second copy of the partition table (GPT) is damaged"),
        (_both_gone, "neither of its two copies is whole"),
    ],
)
def test_a_damaged_disk_is_not_uploaded(
    request_: AmiRequest, aws: AwsProxy, damage: Callable[[Path], None], said: str
) -> None:
    damage(request_.disk)
    error = refused(request_, aws)
    assert said in error.fact
    assert "Copy the file again" in error.remedy
    assert aws.calls == []


def test_an_enlarged_disk_is_whole(request_: AmiRequest) -> None:
    os.truncate(request_.disk, 2 << 30)
    assert disk_architecture(request_.disk) == "x86_64"


def test_a_vhd_is_told_from_a_raw_disk(request_: AmiRequest, aws: AwsProxy) -> None:
    with request_.disk.open("ab") as file:
        file.write(struct.pack(">8s40xQ4xI", b"conectix", 1 << 30, 2).ljust(512, b"\0"))
    assert "is a VHD, not a raw disk" in refused(request_, aws).fact


def test_a_device_is_refused_where_nothing_of_it_would_be_uploaded(
    name: str, aws: AwsProxy
) -> None:
    request = AmiRequest(Path("/dev/zero"), name, REGION, access=Access(endpoint=aws.url))
    with pytest.raises(UserError, match="is a device, and only files") as error:
        plan_ami(request, Silent())
    assert "dd if=/dev/zero of=disk.ami.raw" in error.value.remedy


@pytest.mark.parametrize("first_line", ["", "[]", "null", '{"version": 1}', "\x00\x00"])
def test_a_damaged_note_of_an_earlier_run_is_told(
    request_: AmiRequest, aws: AwsProxy, first_line: str
) -> None:
    aws.fail("PutSnapshotBlock", "refuse", times=99, code="AccessDeniedException")
    with pytest.raises(UserError, match="PutSnapshotBlock"):
        publish_ami(request_, Silent())
    [note] = request_.disk.parent.glob("*.publish")
    note.write_text(first_line + "\n")
    for attempt in (plan_ami, publish_ami):
        with pytest.raises(UserError, match="is damaged") as error:
            attempt(request_, Silent())
        assert "Remove it to begin anew" in error.value.remedy


def test_what_another_account_began_is_not_begun_again_in_this_one(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    aws.fail("PutSnapshotBlock", "refuse", times=99, code="AccessDeniedException")
    with pytest.raises(UserError, match="PutSnapshotBlock"):
        publish_ami(request_, Silent())
    [note] = request_.disk.parent.glob("*.publish")
    account = client(aws, "sts").get_caller_identity()["Account"]
    note.write_text(note.read_text().replace(account, "999999999999"))
    before = note.read_text()
    for attempt in (plan_ami, publish_ami):
        with pytest.raises(UserError, match="is of account 999999999999; these") as error:
            attempt(request_, Silent())
        assert "--profile" in error.value.remedy
    assert note.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tag", "team=os", "--tag", "team=web"], "--tag gives 'team' twice"),
        (["--name", "a"], "--name 'a' cannot be the name"),
        (["--name", "os:v1"], "--name 'os:v1' cannot be the name"),
        (["--share-with", "123"], "--share-with '123' is no account id"),
        (["--copy-to", REGION], f"--copy-to {REGION} is the region"),
        (["--tag", "team"], "--tag 'team' has no value"),
        (["--tag", "aws:team=os"], "--tag 'aws:team' cannot be a key"),
        (["--tag", f"team={'x' * 257}"], "has 257 characters"),
        (["--workers", "0"], "--workers 0 is too few"),
        (["--description", "x" * 256], "--description has 256 characters"),
    ],
)
def test_wrong_arguments_are_named_with_status_2(
    disk: Path, aws: AwsProxy, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["publish", "ami", str(disk), "--name", "os-v1", "--region", REGION]
    assert main([*common, "--endpoint-url", aws.url, *arguments]) == 2
    assert said in capsys.readouterr().err
    assert aws.calls == []


def test_the_account_itself_is_no_friend(disk: Path, name: str, aws: AwsProxy) -> None:
    account = client(aws, "sts").get_caller_identity()["Account"]
    aws.calls.clear()
    request = AmiRequest(disk, name, REGION, share_with=(account,), access=Access(endpoint=aws.url))
    assert isinstance(refused(request, aws), UsageError)


def test_a_disk_that_changes_is_noticed(
    request_: AmiRequest, aws: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.pread
    seen: Counter[int] = Counter()

    def changing(descriptor: int, length: int, at: int) -> bytes:
        seen[at] += 1
        data = read(descriptor, length, at)
        return data[::-1] if at == 777 * BLOCK and seen[at] > 1 else data

    monkeypatch.setattr(os, "pread", changing)
    with pytest.raises(UserError, match="changed while it was uploaded"):
        publish_ami(request_, Silent())
    assert aws.of("CompleteSnapshot") == []
