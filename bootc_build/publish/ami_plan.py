"""What an AMI shall be, and everything that can be known to go wrong with it before a byte is sent."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.publish.architecture import disk_architecture
from bootc_build.publish.aws import Access, Aws, CallRefusedError, calls
from bootc_build.publish.blocks import BlockMap
from bootc_build.publish.state import State, require_account

# The EC2 API reference: RegisterImage and CreateTags.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 128, 256
_ROOT_DEVICE = "/dev/xvda"
_NO_SNAPSHOT = "snap-00000000000000000"
_NO_IMAGE = "ami-00000000000000000"
_DRY_RUN_PASSED = "DryRunOperation"


@dataclass(frozen=True)
class AmiRequest:
    """What the user asks for.

    Attributes:
        disk: a raw disk, as ``bootc-build disk --type ami`` makes it.
        name: of the image, in every region.
        region: where it is uploaded.
        description: of image and snapshot.
        tags: of image and snapshot.
        share_with: accounts that may launch it.
        copy_to: regions that get a copy.
        workers: uploads at once.
        access: how AWS is reached.
    """

    disk: Path
    name: str
    region: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    share_with: Sequence[str] = ()
    copy_to: Sequence[str] = ()
    workers: int = 8
    access: Access = field(default_factory=Access)

    @property
    def regions(self) -> list[str]:
        """All that will have the image, each once."""
        return list(dict.fromkeys((self.region, *self.copy_to)))


@dataclass(frozen=True)
class AmiPlan:
    """What will be done.

    Attributes:
        request: what was asked for.
        architecture: EC2's name of it.
        blocks: what is uploaded.
        account: whose the image will be.
        uploaded: how many of the blocks an earlier run has uploaded.
        notes: what could not be made sure of.
        manifest: whose checksum the disk has; None where none lies beside it.
    """

    request: AmiRequest
    architecture: str
    blocks: BlockMap
    account: str = ""
    uploaded: int = 0
    notes: tuple[str, ...] = ()
    manifest: Path | None = None

    @property
    def facts(self) -> dict[str, object]:
        """What makes this publication another one than any other."""
        return {
            "checksum": self.blocks.checksum,
            "bytes": self.blocks.disk_bytes,
            "name": self.request.name,
            "region": self.request.region,
            "endpoint": self.request.access.endpoint,
        }

    def registration(self, snapshot: str) -> dict[str, object]:
        """The arguments of RegisterImage."""
        volume = {"SnapshotId": snapshot, "VolumeType": "gp3", "DeleteOnTermination": True}
        arguments: dict[str, object] = {
            "Name": self.request.name,
            "Architecture": self.architecture,
            "RootDeviceName": _ROOT_DEVICE,
            "BlockDeviceMappings": [{"DeviceName": _ROOT_DEVICE, "Ebs": volume}],
            "VirtualizationType": "hvm",
            "EnaSupport": True,
            # Every Graviton has UEFI alone; among the others the older ones have BIOS.
            "BootMode": "uefi" if self.architecture == "arm64" else "uefi-preferred",
            "ImdsSupport": "v2.0",
        }
        if self.request.description:
            arguments["Description"] = self.request.description
        return arguments


def check_request(request: AmiRequest) -> str:
    """Check what can be checked without AWS.

    Returns:
        The disk's architecture.

    Raises:
        UsageError: says everything that is wrong.
        UserError: the disk is none.
    """
    check_arguments(request)
    return disk_architecture(request.disk)


def check_arguments(request: AmiRequest) -> None:
    """Check what the user gave, without a look at the disk.

    Raises:
        UsageError: says everything that is wrong.
    """
    faults = list(_faults(request))
    if faults:
        raise UsageError("\n".join(faults))


def check_account(plan: AmiPlan, aws: Aws, state: State) -> tuple[str, tuple[str, ...]]:
    """Check everything that AWS can be asked: credentials, regions, the name, permissions.

    Args:
        plan: what will be done.
        aws: where.
        state: what an earlier run did: its own image does not take its name away.

    Returns:
        The account, and what could not be made sure of.

    Raises:
        UserError: says what is wrong.
    """
    request = plan.request
    with calls("asking who this is (sts:GetCallerIdentity)"):
        account = str(aws.client("sts", request.region).get_caller_identity()["Account"])
    require_account(state, account)
    if account in request.share_with:
        raise UsageError(f"--share-with {account} is the account that the image will belong to.")
    _check_regions(request, aws)
    if request.region not in state.images:
        own_image(aws, request, state)
        for region in request.regions[1:]:
            if taken := named_image(aws, region, request.name):
                raise _name_taken(request.name, region, taken)
    return account, tuple(_permission_notes(plan, aws))


def own_image(aws: Aws, request: AmiRequest, state: State) -> str | None:
    """The id of the image that an earlier run registered of its snapshot; None if there is none yet.

    Raises:
        UserError: another image has the name, or AWS refused.
    """
    image = named_image(aws, request.region, request.name)
    if image is None:
        return None
    if state.snapshot in snapshots_of(image):
        return str(image["ImageId"])
    raise _name_taken(request.name, request.region, image)


def named_image(aws: Aws, region: str, name: str) -> dict[str, Any] | None:
    """What EC2 says of the account's own image with this name; None if there is none.

    Raises:
        UserError: AWS refused.
    """
    with calls(f"looking for images in {region} (ec2:DescribeImages)"):
        found = aws.client("ec2", region).describe_images(
            Owners=["self"], Filters=[{"Name": "name", "Values": [name]}]
        )
    return next(iter(found["Images"]), None)


def snapshots_of(image: Mapping[str, Any]) -> list[str]:
    """The ids of the snapshots that an image is made of."""
    mappings = (mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", ()))
    return [str(ebs["SnapshotId"]) for ebs in mappings if "SnapshotId" in ebs]


def _name_taken(name: str, region: str, image: Mapping[str, Any]) -> UserError:
    return UserError(
        f"An image with the name '{name}' is in {region} already: {image['ImageId']}.",
        "Choose another --name, or deregister that image.",
    )


def _check_regions(request: AmiRequest, aws: Aws) -> None:
    with calls("listing the regions (ec2:DescribeRegions)"):
        found = aws.client("ec2", request.region).describe_regions()
    enabled = {str(region["RegionName"]) for region in found["Regions"]}
    unknown = [region for region in request.regions if region not in enabled]
    if unknown:
        raise UserError(
            f"Not a region of this account: {', '.join(unknown)}.",
            f"Those that are enabled: {', '.join(sorted(enabled))}.",
        )


def _permission_notes(plan: AmiPlan, aws: Aws) -> Iterator[str]:
    """Try the calls that EC2 can try without doing them; the EBS direct APIs have no such thing."""
    request = plan.request
    registration = plan.registration(_NO_SNAPSHOT)
    trials: list[tuple[str, str, Mapping[str, object]]] = [
        (request.region, "RegisterImage", registration),
        *((region, "CopyImage", copy_arguments(request, _NO_IMAGE)) for region in request.copy_to),
    ]
    for region, action, arguments in trials:
        ec2 = aws.client("ec2", region)
        call = ec2.register_image if action == "RegisterImage" else ec2.copy_image
        try:
            with calls(f"a trial of ec2:{action} in {region}"):
                call(**arguments, DryRun=True)
        except CallRefusedError as error:
            if error.means_not_allowed:
                raise
            if error.code != _DRY_RUN_PASSED:
                yield f"Whether ec2:{action} is allowed is not known: {error.fact}"


def copy_arguments(request: AmiRequest, image: str) -> dict[str, str]:
    """The arguments of CopyImage, called in the region that gets the copy."""
    arguments = {"Name": request.name, "SourceImageId": image, "SourceRegion": request.region}
    if request.description:
        arguments["Description"] = request.description
    return arguments


def _faults(request: AmiRequest) -> Iterator[str]:
    if not _NAME.fullmatch(request.name):
        yield (
            f"--name '{request.name}' cannot be the name of an AMI: 3 to 128 letters, digits, spaces "
            "and any of ()[]./-'@_"
        )
    if len(request.description) > 255:  # noqa: PLR2004 - the API's
        yield f"--description has {len(request.description)} characters; EC2 takes 255."
    for account in request.share_with:
        if not _ACCOUNT.fullmatch(account):
            yield f"--share-with '{account}' is no account id: it has 12 digits."
    if request.region in request.copy_to:
        yield f"--copy-to {request.region} is the region that the image is made in."
    if request.workers < 1:
        yield f"--workers {request.workers} is too few: 1 or more."
    yield from _tag_faults(request.tags)


def _tag_faults(tags: Mapping[str, str]) -> Iterator[str]:
    if len(tags) > _MOST_TAGS:
        yield f"{len(tags)} tags are too many: AWS takes {_MOST_TAGS}."
    for key, value in tags.items():
        if not key or len(key) > _LONGEST_KEY or key.lower().startswith("aws:"):
            yield f"--tag '{key}' cannot be a key: 1 to {_LONGEST_KEY} characters, and not beginning with aws:"
        if len(value) > _LONGEST_VALUE:
            yield f"The value of --tag {key} has {len(value)} characters; AWS takes {_LONGEST_VALUE}."
