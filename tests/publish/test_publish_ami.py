import base64
import hashlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Silent
from bootc_build.publish.ami import plan_ami, publish_ami
from bootc_build.publish.ami_plan import AmiRequest
from bootc_build.publish.aws import Access
from tests.publish.aws_proxy import AwsProxy
from tests.publish.conftest import BLOCK, READ_ONLY, REGION, USED, client, write_disk


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
    noted = next(request_.disk.parent.glob("*.publish")).read_text().splitlines()[1:]
    [gone] = [json.loads(line)["snapshot"] for line in noted if "snapshot" in line]
    client(aws, "ec2").delete_snapshot(SnapshotId=gone)
    published = publish_ami(request_, Silent())
    assert published.snapshot != gone
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
