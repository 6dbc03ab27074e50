"""Give up a publication that was interrupted: what it made at AWS goes, then the file that remembers it.

What is gone already is no fault, and the file goes last: a discard that is interrupted is simply begun again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress
from bootc_build.publish.ami_plan import AmiRequest, check_arguments, named_image, snapshots_of
from bootc_build.publish.aws import Aws, CallRefusedError, calls
from bootc_build.publish.state import (
    State,
    open_state,
    publication_of,
    require_account,
    unfinished,
)

_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")


@dataclass(frozen=True)
class Leftover:
    """One thing that an interrupted publication left.

    Attributes:
        kind: "image", "snapshot" or "file".
        name: its id, or the file's path.
        region: where it is; empty for a file.
        state: what EC2 says of it, like "pending"; empty for a file.
    """

    kind: str
    name: str
    region: str = ""
    state: str = ""


@dataclass(frozen=True)
class Discarded:
    """What was deleted, or would be.

    Attributes:
        account: whose it was.
        leftovers: in the order in which they go.
    """

    account: str
    leftovers: tuple[Leftover, ...]


def discard_ami(request: AmiRequest, progress: Progress, *, dry_run: bool = False) -> Discarded:
    """Delete what interrupted publications of a disk of this name, as this image, to this region left.

    The disk itself is not read: it may have changed since, or be gone.

    Args:
        request: of the publication; what it asks for beyond name and region does not matter.
        progress: is told what goes.
        dry_run: only look what would go.

    Raises:
        UsageError, UserError: there is nothing to discard, AWS refused, or somebody publishes just that.
    """
    check_arguments(request)
    found = [path for path in unfinished(request.disk) if _is_of(request, publication_of(path))]
    if not found:
        raise UserError(
            f"There is nothing to discard: no upload of '{request.disk}' to {request.region} as "
            f"'{request.name}' is unfinished.",
            _what_is_unfinished(request.disk),
        )
    aws = Aws(request.access)
    with calls("asking who this is (sts:GetCallerIdentity)"):
        account = str(aws.client("sts", request.region).get_caller_identity()["Account"])
    gone: list[Leftover] = []
    for path in found:
        with open_state(path, publication_of(path)) as state:
            require_account(state, account)
            images = _images(request, aws, state)
            leftovers = list(_leftovers(request, aws, state, images))
            if not dry_run:
                _delete(aws, state, images, leftovers, progress)
            gone += leftovers
    return Discarded(account, tuple(gone))


def _is_of(request: AmiRequest, publication: Mapping[str, Any]) -> bool:
    wanted = (request.name, request.region, request.access.endpoint)
    return tuple(publication.get(key) for key in ("name", "region", "endpoint")) == wanted


def _what_is_unfinished(disk: Path) -> str:
    lines = []
    for path in unfinished(disk):
        facts = publication_of(path)
        how = f"--name '{facts.get('name')}' --region {facts.get('region')}" if facts else "damaged"
        lines.append(f"  {path}: {how}")
    if not lines:
        return f"No file '{disk.name}.XXXXXXXX.publish' lies beside it."
    return "\n".join(["What is unfinished:", *lines])


def _images(request: AmiRequest, aws: Aws, state: State) -> dict[str, Mapping[str, Any]]:
    """What EC2 says of the images that were made, by region; those that are there."""
    found = {}
    for region, image in state.images.items():
        with calls(f"looking for {image} (ec2:DescribeImages)"):
            # By a filter: of an id that is gone, EC2 makes an error otherwise.
            said = aws.client("ec2", region).describe_images(
                Filters=[{"Name": "image-id", "Values": [image]}]
            )
        if said["Images"]:
            found[region] = said["Images"][0]
    if state.snapshot is not None and request.region not in state.images:
        # Killed between the answer and the note, the image is there.
        unnoted = named_image(aws, request.region, request.name)
        if unnoted is not None and state.snapshot in snapshots_of(unnoted):
            found[request.region] = unnoted
    return found


def _leftovers(
    request: AmiRequest, aws: Aws, state: State, images: Mapping[str, Mapping[str, Any]]
) -> Iterator[Leftover]:
    # A snapshot cannot go while there is an image of it.
    snapshots = list(state.leftovers)
    for region, image in images.items():
        yield Leftover("image", str(image["ImageId"]), region, str(image["State"]))
        snapshots += [(region, snapshot) for snapshot in snapshots_of(image)]
    if state.snapshot is not None:
        snapshots.append((request.region, state.snapshot))
    for region, snapshot in dict.fromkeys(snapshots):
        with calls(f"looking for {snapshot} (ec2:DescribeSnapshots)"):
            said = aws.client("ec2", region).describe_snapshots(
                Filters=[{"Name": "snapshot-id", "Values": [snapshot]}]
            )
        for found in said["Snapshots"]:
            yield Leftover("snapshot", snapshot, region, str(found["State"]))
    yield Leftover("file", str(state.path))


def _delete(
    aws: Aws,
    state: State,
    images: Mapping[str, Mapping[str, Any]],
    leftovers: list[Leftover],
    progress: Progress,
) -> None:
    for region, image in images.items():
        # Whoever is killed once the image is gone cannot ask it for its snapshots any more.
        for snapshot in snapshots_of(image):
            state.note(region=region, leftover=snapshot)
    for each in leftovers:
        progress.step(f"Deleting {each.name}{' in ' * bool(each.region)}{each.region}")
        if each.kind == "file":
            state.remove()
            continue
        ec2 = aws.client("ec2", each.region)
        try:
            if each.kind == "image":
                with calls(f"deregistering {each.name} (ec2:DeregisterImage)"):
                    ec2.deregister_image(ImageId=each.name)
            else:
                with calls(f"deleting {each.name} (ec2:DeleteSnapshot)"):
                    ec2.delete_snapshot(SnapshotId=each.name)
        except CallRefusedError as error:
            if error.code not in _GONE:
                raise
