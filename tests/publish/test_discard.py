"""An upload that is given up leaves nothing, at AWS and beside the disk."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Silent
from bootc_build.publish.ami import publish_ami
from bootc_build.publish.ami_plan import AmiRequest, snapshots_of
from bootc_build.publish.discard import discard_ami
from tests.publish.aws_proxy import AwsProxy
from tests.publish.conftest import READ_ONLY, REGION, client
from tests.publish.test_publish_ami import command

COPY = "us-east-1"
_LOOKS = READ_ONLY | {"DescribeSnapshots"}


def arguments(request: AmiRequest, *more: str) -> list[str]:
    common = ["publish", "ami", str(request.disk), "--name", request.name]
    return [*common, "--region", REGION, "--endpoint-url", str(request.access.endpoint), *more]


def interrupt(request: AmiRequest, aws: AwsProxy, action: str, *, after: int = 0) -> None:
    """Publish until an action is refused."""
    fault = aws.fail(action, "refuse", after=after, times=99, code="AccessDeniedException")
    with pytest.raises(UserError, match=action):
        publish_ami(request, Silent())
    aws.faults.remove(fault)
    aws.calls.clear()


def snapshots(aws: AwsProxy, region: str = REGION) -> set[str]:
    found = client(aws, "ec2", region).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return {str(each["SnapshotId"]) for each in found}


def images(aws: AwsProxy, name: str, region: str = REGION) -> list[str]:
    filters = [{"Name": "name", "Values": [name]}]
    found = client(aws, "ec2", region).describe_images(Owners=["self"], Filters=filters)["Images"]
    return [str(each["ImageId"]) for each in found]


def states(disk: Path) -> Sequence[Path]:
    return list(disk.parent.glob("*.publish"))


def test_an_interrupted_upload_is_given_up(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshots(aws)
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    [pending] = snapshots(aws) - before
    [file] = states(request_.disk)
    assert main(arguments(request_, "--discard")) == 0
    said = capsys.readouterr().out
    assert f"snapshot {pending} in {REGION} (" in said
    assert str(file) in said
    assert snapshots(aws) == before
    assert states(request_.disk) == []
    # What comes next is a publication like any other.
    assert publish_ami(request_, Silent()).snapshot != pending


def test_a_trial_says_what_would_go_and_changes_nothing(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    [file] = states(request_.disk)
    noted, there = file.read_text(), snapshots(aws)
    aws.calls.clear()
    assert main(arguments(request_, "--discard", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "would be deleted" in said
    assert "Nothing was changed." in said
    assert set(aws.actions()) <= _LOOKS
    assert main(arguments(request_, "--discard", "--dry-run", "--format", "json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in document["deleted"]] == ["snapshot", "file"]
    assert document["deleted"][0]["name"] in said
    assert (file.read_text(), snapshots(aws)) == (noted, there)


def test_images_and_copies_go_too(request_: AmiRequest, aws: AwsProxy) -> None:
    request = replace(request_, copy_to=(COPY,), tags={"a": "b"})
    before = {region: snapshots(aws, region) for region in request.regions}
    interrupt(request, aws, "CreateTags")
    for region in request.regions:
        assert images(aws, request.name, region)
    # The copy is known by what was noted, and does not need to be asked for again.
    gone = discard_ami(request_, Silent())
    kinds = [each.kind for each in gone.leftovers]
    assert kinds[:2] == ["image", "image"]
    assert set(kinds[2:-1]) == {"snapshot"}
    assert kinds[-1] == "file"
    for region in request.regions:
        assert images(aws, request.name, region) == []
        assert snapshots(aws, region) == before[region]
    assert states(request.disk) == []


def test_an_image_that_was_not_noted_any_more_goes_too(
    request_: AmiRequest, aws: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshots(aws)
    interrupt(replace(request_, tags={"a": "b"}), aws, "CreateTags")
    [file] = states(request_.disk)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"image"' not in line))
    [snapshot] = [json.loads(line)["snapshot"] for line in lines[1:] if '"snapshot"' in line]
    # moto gives images snapshots of their own; EC2 says of which they were made.
    of = "bootc_build.publish.discard.snapshots_of"
    monkeypatch.setattr(of, lambda image: [*snapshots_of(image), snapshot])
    discard_ami(request_, Silent())
    assert images(aws, request_.name) == []
    assert snapshots(aws) == before
    assert states(request_.disk) == []


@pytest.mark.parametrize("action", ["DeregisterImage", "DeleteSnapshot"])
def test_one_that_is_interrupted_is_begun_again(
    request_: AmiRequest, aws: AwsProxy, action: str
) -> None:
    request = replace(request_, copy_to=(COPY,), tags={"a": "b"})
    before = {region: snapshots(aws, region) for region in request.regions}
    interrupt(request, aws, "CreateTags")
    aws.fail(action, "refuse", after=1, times=1, code="UnauthorizedOperation")
    with pytest.raises(UserError, match=action) as refused:
        discard_ami(request, Silent())
    assert "IAM policy" in refused.value.remedy
    assert states(request.disk) != []
    discard_ami(request, Silent())
    for region in request.regions:
        assert images(aws, request.name, region) == []
        assert snapshots(aws, region) == before[region]
    assert states(request.disk) == []


def test_what_is_gone_already_is_no_fault(request_: AmiRequest, aws: AwsProxy) -> None:
    before = snapshots(aws)
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    [pending] = snapshots(aws) - before
    client(aws, "ec2").delete_snapshot(SnapshotId=pending)
    [gone] = discard_ami(request_, Silent()).leftovers
    assert gone.kind == "file"
    assert states(request_.disk) == []


def test_the_disk_need_not_be_there_any_more(request_: AmiRequest, aws: AwsProxy) -> None:
    before = snapshots(aws)
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    request_.disk.unlink()
    discard_ami(request_, Silent())
    assert snapshots(aws) == before
    assert states(request_.disk) == []


def test_nothing_to_discard_is_said(
    request_: AmiRequest, aws: AwsProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(request_, "--discard")) == 1
    said = capsys.readouterr().err
    assert f"nothing to discard: no upload of '{request_.disk}' to {REGION}" in said
    assert f"No file '{request_.disk.name}.XXXXXXXX.publish' lies beside it" in said
    assert aws.calls == []


def test_another_name_or_region_is_left_alone_and_named(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    there = snapshots(aws)
    for other in (replace(request_, name="another"), replace(request_, region=COPY)):
        with pytest.raises(UserError, match="nothing to discard") as refused:
            discard_ami(other, Silent())
        assert f"--name '{request_.name}' --region {REGION}" in refused.value.remedy
    assert snapshots(aws) == there
    assert len(states(request_.disk)) == 1


def test_another_account_is_not_asked_for_what_it_does_not_have(
    request_: AmiRequest, aws: AwsProxy
) -> None:
    interrupt(request_, aws, "PutSnapshotBlock", after=3)
    [file] = states(request_.disk)
    account = client(aws, "sts").get_caller_identity()["Account"]
    file.write_text(file.read_text().replace(account, "999999999999"))
    with pytest.raises(UserError, match="is of account 999999999999; these") as refused:
        discard_ami(request_, Silent())
    assert "--profile" in refused.value.remedy
    assert file.exists()


def test_an_upload_that_is_running_is_not_given_up(request_: AmiRequest, aws: AwsProxy) -> None:
    hold = aws.fail("PutSnapshotBlock", "hold", times=4)
    with subprocess.Popen(command(request_), stderr=subprocess.PIPE) as process:
        assert hold.happened.wait(120)
        there = snapshots(aws)
        with pytest.raises(UserError, match="Another process is publishing"):
            discard_ami(request_, Silent())
        assert snapshots(aws) == there
        process.kill()
        process.communicate(timeout=120)
