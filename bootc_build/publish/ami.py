"""A disk becomes an AMI: snapshot, registration, tags, shares, copies; every step noted, so that none is repeated."""

from dataclasses import dataclass, replace

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress
from bootc_build.publish.ami_plan import (
    AmiPlan,
    AmiRequest,
    check_account,
    check_request,
    copy_arguments,
    own_image,
    snapshots_of,
)
from bootc_build.publish.aws import Aws, calls
from bootc_build.publish.blocks import map_blocks
from bootc_build.publish.recorded import recorded_disk
from bootc_build.publish.snapshot import complete, forget_what_is_gone, start_snapshot, upload
from bootc_build.publish.state import State, earlier_state, open_state, others, state_file

# Copies between regions go on for half an hour where the disk is large.
_IMAGE_WAIT = {"Delay": 15, "MaxAttempts": 480}


@dataclass(frozen=True)
class PublishedAmi:
    """What came of it.

    Attributes:
        name: of the image.
        account: whose it is.
        snapshot: its snapshot, in the first region.
        images: region -> id of the image there.
    """

    name: str
    account: str
    snapshot: str
    images: dict[str, str]


def plan_ami(request: AmiRequest, progress: Progress) -> AmiPlan:
    """Check all preconditions and decide what will be done; nothing is changed at AWS.

    Raises:
        UsageError, UserError: say what is wrong.
    """
    architecture = check_request(request)
    aws = Aws(request.access)
    plan = _map(request, architecture, progress)
    path = state_file(request.disk, plan.facts)
    earlier = earlier_state(path)
    account, notes = check_account(plan, aws, earlier)
    return replace(plan, account=account, notes=notes, uploaded=len(earlier.blocks))


def publish_ami(request: AmiRequest, progress: Progress) -> PublishedAmi:
    """Do it, or go on where an earlier run was interrupted.

    Raises:
        UsageError, UserError: say what is wrong; what is uploaded stays for the next run.
    """
    architecture = check_request(request)
    aws = Aws(request.access)
    plan = _map(request, architecture, progress)
    path = state_file(request.disk, plan.facts)
    existed = path.exists()
    with open_state(path, plan.facts) as state:
        try:
            account, notes = check_account(plan, aws, state)
        except BaseException:
            if not existed:
                state.remove()
            raise
        if state.account != account:
            state.note(account=account)
        plan = replace(plan, account=account, notes=notes)
        for note in notes:
            progress.step(note)
        for other in others(request.disk, path):
            progress.step(f"An upload of another disk or name is unfinished: {other}")
        published = _publish(plan, aws, state, progress)
        state.remove()
    return published


def _map(request: AmiRequest, architecture: str, progress: Progress) -> AmiPlan:
    total = request.disk.stat().st_size
    recorded = recorded_disk(request.disk)
    if recorded is not None:
        recorded.check_size(request.disk)
    progress.step(f"Reading {request.disk}")
    try:
        blocks = map_blocks(
            request.disk,
            lambda done: progress.bytes_done(done, total),
            hash_file=recorded is not None,
        )
    except OSError as error:
        raise UserError(
            f"The disk '{request.disk}' cannot be read: {error.strerror}.",
            "Is the storage that it lies on whole? The kernel's log tells (dmesg).",
        ) from error
    if recorded is None:
        return AmiPlan(request, architecture, blocks)
    recorded.check(request.disk, blocks)
    return AmiPlan(request, architecture, blocks, manifest=recorded.manifest)


def _publish(plan: AmiPlan, aws: Aws, state: State, progress: Progress) -> PublishedAmi:
    request = plan.request
    ec2, ebs = (aws.client(service, request.region) for service in ("ec2", "ebs"))
    forget_what_is_gone(ec2, state, progress)
    snapshot = start_snapshot(ebs, state, plan.blocks, request.description, request.tags)
    if not state.completed:
        upload(ebs, request.disk, plan.blocks, state, workers=request.workers, progress=progress)
    complete(ebs, ec2, plan.blocks, state, progress)
    _register(plan, aws, state, snapshot, progress)
    for region in request.regions[1:]:
        _copy(request, aws, state, region, progress)
    for region in request.regions:
        _finish(request, aws, state, region, progress)
    images = {region: state.images[region] for region in request.regions}
    return PublishedAmi(request.name, plan.account, snapshot, images)


def _register(plan: AmiPlan, aws: Aws, state: State, snapshot: str, progress: Progress) -> None:
    request = plan.request
    if request.region not in state.images:
        # Killed between the answer and the note, the image is there.
        image = own_image(aws, request, state)
        if image is None:
            progress.step(f"Registering '{request.name}' in {request.region}")
            with calls("registering the image (ec2:RegisterImage)"):
                ec2 = aws.client("ec2", request.region)
                image = str(ec2.register_image(**plan.registration(snapshot))["ImageId"])
        state.note(region=request.region, image=image)
    # A copy is made of an image that is ready.
    _wait(aws, state, request.region)


def _copy(request: AmiRequest, aws: Aws, state: State, region: str, progress: Progress) -> None:
    if region in state.images:
        return
    progress.step(f"Copying to {region}")
    with calls(f"copying the image to {region} (ec2:CopyImage)"):
        copied = aws.client("ec2", region).copy_image(
            **copy_arguments(request, state.images[request.region]),
            ClientToken=f"{state.token}-{region}",
        )
    state.note(region=region, image=str(copied["ImageId"]))


def _finish(request: AmiRequest, aws: Aws, state: State, region: str, progress: Progress) -> None:
    """Wait for the image, tag it and its snapshots, and share it."""
    if region in state.finished:
        return
    progress.step(f"Waiting for {state.images[region]} in {region}")
    _wait(aws, state, region)
    ec2 = aws.client("ec2", region)
    image = state.images[region]
    if request.tags:
        with calls(f"tagging {image} (ec2:CreateTags)"):
            ec2.create_tags(
                Resources=[image, *_snapshots(aws, region, image)],
                Tags=[{"Key": key, "Value": value} for key, value in request.tags.items()],
            )
    if request.share_with:
        progress.step(f"Sharing {image} with {', '.join(request.share_with)}")
        with calls(f"sharing {image} (ec2:ModifyImageAttribute)"):
            ec2.modify_image_attribute(
                ImageId=image,
                LaunchPermission={"Add": [{"UserId": account} for account in request.share_with]},
            )
    state.note(finished=region)


def _wait(aws: Aws, state: State, region: str) -> None:
    image = state.images[region]
    with calls(f"waiting for {image} in {region}"):
        waiter = aws.client("ec2", region).get_waiter("image_available")
        waiter.wait(ImageIds=[image], WaiterConfig=_IMAGE_WAIT)


def _snapshots(aws: Aws, region: str, image: str) -> list[str]:
    with calls(f"looking at {image} (ec2:DescribeImages)"):
        [found] = aws.client("ec2", region).describe_images(ImageIds=[image])["Images"]
    return snapshots_of(found)
