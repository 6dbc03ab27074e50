import base64
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.progress import Silent
from bootc_build.publish.ami import plan_ami, publish_ami
from bootc_build.publish.ami_plan import AmiRequest
from bootc_build.publish.aws import Access
from tests.publish.aws_proxy import AwsProxy
from tests.publish.conftest import BLOCK, REGION, USED, client, write_disk

READ_ONLY = {
    "GetCallerIdentity",
    "DescribeRegions",
    "DescribeImages",
    "RegisterImage(trial)",
    "CopyImage(trial)",
}


@pytest.fixture
def request_(disk: Path, name: str, aws: AwsProxy) -> AmiRequest:
    return AmiRequest(disk, name, REGION, workers=4, access=Access(endpoint=aws.url, connections=4))


def stored_blocks(aws: AwsProxy, snapshot: str) -> dict[int, bytes]:
    """Every block of a snapshot, read back."""
    ebs = client(aws, "ebs")
    listed = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    return {
        block["BlockIndex"]: ebs.get_snapshot_block(
            SnapshotId=snapshot, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"]
        )["BlockData"].read()
        for block in listed
    }


def assert_same_disk(aws: AwsProxy, snapshot: str, disk: Path) -> None:
    stored = stored_blocks(aws, snapshot)
    assert sorted(stored) == list(USED)
    with disk.open("rb") as file:
        for index, data in stored.items():
            file.seek(index * BLOCK)
            assert file.read(BLOCK) == data, f"block {index}"


def uploads(aws: AwsProxy) -> Counter[int | None]:
    """How often each block was stored."""
    return Counter(call.block for call in aws.of("PutSnapshotBlock"))


def test_what_is_stored_is_the_disk_and_zeros_are_not_sent(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    published = publish_ami(request_, Silent())
    assert uploads(aws) == dict.fromkeys(USED, 1)
    assert_same_disk(aws, published.snapshot, request_.disk)
    assert published.images.keys() == {REGION}
    assert [path.name for path in request_.disk.parent.iterdir()] == [request_.disk.name]


def test_blocks_and_the_whole_have_their_checksums(request_: AmiRequest, aws: AwsProxy) -> None:
    publish_ami(request_, Silent())
    total = hashlib.sha256()
    for call in sorted(aws.of("PutSnapshotBlock"), key=lambda call: call.block or 0):
        digest = hashlib.sha256(call.body).digest()
        assert call.headers["x-amz-checksum"] == base64.b64encode(digest).decode()
        assert call.headers["x-amz-checksum-algorithm"] == "SHA256"
        assert call.headers["x-amz-data-length"] == str(BLOCK)
        total.update(digest)
    [completion] = aws.of("CompleteSnapshot")
    assert completion.headers["x-amz-checksum"] == base64.b64encode(total.digest()).decode()
    assert completion.headers["x-amz-checksum-aggregation-method"] == "LINEAR"
    assert completion.headers["x-amz-changedblockscount"] == str(len(USED))


def test_image_is_registered_for_nitro_with_imdsv2(request_: AmiRequest, aws: AwsProxy) -> None:
    published = publish_ami(request_, Silent())
    [call] = aws.of("RegisterImage")
    expected = {
        "Name": request_.name,
        "Architecture": "x86_64",
        "BootMode": "uefi-preferred",
        "EnaSupport": "true",
        "ImdsSupport": "v2.0",
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMapping.1.DeviceName": "/dev/xvda",
        "BlockDeviceMapping.1.Ebs.SnapshotId": published.snapshot,
        "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
        "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
    }
    assert {key: call.arguments.get(key) for key in expected} == expected


def test_an_arm_disk_is_registered_as_one(tmp_path: Path, name: str, aws: AwsProxy) -> None:
    disk = write_disk(tmp_path / "arm.raw", root="b921b045-1df0-41c3-af44-4c6f280d3fae")
    publish_ami(AmiRequest(disk, name, REGION, access=Access(endpoint=aws.url)), Silent())
    [call] = aws.of("RegisterImage")
    assert (call.arguments["Architecture"], call.arguments["BootMode"]) == ("arm64", "uefi")


def test_tags_shares_and_copies(disk: Path, name: str, aws: AwsProxy) -> None:
    friend = "210987654321"
    request = AmiRequest(
        disk,
        name,
        REGION,
        tags={"team": "os", "version": "1"},
        share_with=(friend,),
        copy_to=("us-east-1", "eu-west-1"),
        access=Access(endpoint=aws.url),
    )
    published = publish_ami(request, Silent())
    assert list(published.images) == [REGION, "us-east-1", "eu-west-1"]
    for region, image in published.images.items():
        ec2 = client(aws, "ec2", region)
        [found] = ec2.describe_images(ImageIds=[image])["Images"]
        assert found["Name"] == name
        assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == request.tags
        [mapping] = found["BlockDeviceMappings"]
        [snapshot] = ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"]
        assert {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]} == request.tags
        shared = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
        assert shared["LaunchPermissions"] == [{"UserId": friend}]
    own = client(aws, "ec2").describe_snapshots(SnapshotIds=[published.snapshot])["Snapshots"]
    assert {tag["Key"]: tag["Value"] for tag in own[0]["Tags"]} == request.tags


def test_dry_run_says_what_would_be_and_changes_nothing(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["publish", "ami", str(request_.disk), "--name", request_.name, "--region", REGION]
    arguments += ["--copy-to", "us-east-1", "--endpoint-url", aws.url, "--dry-run"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for part in (
        "1 GiB",
        f"{len(USED)} blocks",
        "uefi-preferred",
        "us-east-1",
        "Nothing was changed",
    ):
        assert part in said
    assert main([*arguments, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["blocks"] == len(USED)
    assert document["registration"]["ImdsSupport"] == "v2.0"
    assert set(aws.actions()) <= READ_ONLY
    assert {"RegisterImage(trial)", "CopyImage(trial)"} <= set(aws.actions())
    assert [path.name for path in request_.disk.parent.iterdir()] == [request_.disk.name]


def test_result_is_printed(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["publish", "ami", str(request_.disk), "--name", request_.name, "--region", REGION]
    assert main([*arguments, "--endpoint-url", aws.url, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    [found] = client(aws, "ec2").describe_images(ImageIds=[document["images"][REGION]])["Images"]
    assert found["Name"] == request_.name


@pytest.mark.parametrize(
    ("action", "kind", "times"),
    [
        ("PutSnapshotBlock", "refuse", 3),
        ("PutSnapshotBlock", "drop", 2),
        ("StartSnapshot", "drop", 1),
        ("CompleteSnapshot", "refuse", 2),
        ("RegisterImage", "drop", 1),
        ("DescribeRegions", "refuse", 1),
    ],
)
def test_throttling_and_lost_connections_are_lived_through(
    request_: AmiRequest, aws: AwsProxy, action: str, kind: str, times: int
) -> None:
    code = "RequestThrottledException" if "Snapshot" in action else "RequestLimitExceeded"
    fault = aws.fail(action, kind, times=times, code=code)
    published = publish_ami(request_, Silent())
    assert fault.seen > times
    assert uploads(aws) == dict.fromkeys(USED, 1)
    assert_same_disk(aws, published.snapshot, request_.disk)


def test_a_lost_answer_stores_the_same_block_at_the_same_place(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    fault = aws.fail("PutSnapshotBlock", "lose")
    published = publish_ami(request_, Silent())
    assert fault.happened.is_set()
    assert_same_disk(aws, published.snapshot, request_.disk)


def command(request: AmiRequest) -> list[str]:
    arguments = ["publish", "ami", str(request.disk), "--name", request.name, "--region", REGION]
    arguments += ["--workers", str(request.workers), "--endpoint-url", str(request.access.endpoint)]
    return [sys.executable, "-m", "bootc_build.cli.main", *arguments]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_midway_it_goes_on_and_uploads_nothing_twice(
    request_: AmiRequest, aws: AwsProxy, sent: signal.Signals
) -> None:
    # Five blocks are stored, and noted, since every worker is at its next one, which gets no answer and is not.
    hold = aws.fail("PutSnapshotBlock", "hold", after=5, times=4)
    with subprocess.Popen(
        command(request_), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert hold.happened.wait(120)
        process.send_signal(sent)
        if sent is not signal.SIGKILL:
            aws.released.set()  # what is on its way is waited for
        process.communicate(timeout=120)
    assert process.returncode != 0
    before = uploads(aws)
    assert before.total() >= 5
    [state] = request_.disk.parent.glob("*.publish")
    assert plan_ami(request_, Silent()).uploaded == before.total()
    aws.faults.clear()
    aws.released.set()
    published = publish_ami(request_, Silent())
    assert uploads(aws) == dict.fromkeys(USED, 1)
    assert len(aws.of("StartSnapshot")) == 1
    assert_same_disk(aws, published.snapshot, request_.disk)
    assert not state.exists()


@pytest.mark.parametrize("action", ["CompleteSnapshot", "RegisterImage", "CopyImage", "CreateTags"])
def test_a_later_step_that_fails_is_taken_up_there(
    disk: Path, name: str, aws: AwsProxy, action: str
) -> None:
    request = AmiRequest(
        disk,
        name,
        REGION,
        tags={"a": "b"},
        copy_to=("us-east-1",),
        access=Access(endpoint=aws.url),
    )
    aws.fail(action, "refuse", code="AccessDeniedException")
    with pytest.raises(UserError, match=action) as refused:
        publish_ami(request, Silent())
    assert "IAM policy" in refused.value.remedy
    published = publish_ami(request, Silent())
    for once in ("StartSnapshot", "CompleteSnapshot", "RegisterImage", "CopyImage"):
        assert len(aws.of(once)) == 1, once
    assert uploads(aws) == dict.fromkeys(USED, 1)
    assert list(published.images) == [REGION, "us-east-1"]


def test_another_disk_of_the_same_name_is_another_upload(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    aws.fail("PutSnapshotBlock", "refuse", after=3, times=99, code="AccessDeniedException")
    with pytest.raises(UserError, match="PutSnapshotBlock"):
        publish_ami(request_, Silent())
    aws.faults.clear()
    with request_.disk.open("r+b") as file:
        file.seek(BLOCK * 5)
        file.write(random.Random(2).randbytes(5000))  # noqa: S311 - any bytes do
    published = publish_ami(request_, Silent())
    assert len(aws.of("StartSnapshot")) == 2
    assert_same_disk(aws, published.snapshot, request_.disk)
    assert len(list(request_.disk.parent.glob("*.publish"))) == 1  # the old one's stays


def test_a_snapshot_that_is_gone_is_begun_anew(request_: AmiRequest, aws: AwsProxy) -> None:
    aws.fail("PutSnapshotBlock", "refuse", after=3, times=99, code="AccessDeniedException")
    with pytest.raises(UserError, match="PutSnapshotBlock"):
        publish_ami(request_, Silent())
    aws.faults.clear()
    gone = json.loads(next(request_.disk.parent.glob("*.publish")).read_text().splitlines()[1])
    client(aws, "ec2").delete_snapshot(SnapshotId=gone["snapshot"])
    published = publish_ami(request_, Silent())
    assert published.snapshot != gone["snapshot"]
    assert_same_disk(aws, published.snapshot, request_.disk)
    tokens = [json.dumps(call.arguments.get("ClientToken")) for call in aws.of("StartSnapshot")]
    assert len(set(tokens)) == 2


def test_two_at_once_are_one_too_many(request_: AmiRequest, aws: AwsProxy) -> None:
    hold = aws.fail("PutSnapshotBlock", "hold", times=4)
    with subprocess.Popen(
        command(request_), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert hold.happened.wait(120)
        with pytest.raises(UserError, match="Another process is publishing"):
            publish_ami(request_, Silent())
        process.kill()
        process.communicate(timeout=120)


# What is known to go wrong before the first byte.


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
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
