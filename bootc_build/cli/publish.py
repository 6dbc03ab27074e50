"""``bootc-build publish``: a disk goes out to a cloud."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.onhost.errors import UsageError
from bootc_build.publish.ami import PublishedAmi, plan_ami, publish_ami
from bootc_build.publish.ami_plan import AmiPlan, AmiRequest
from bootc_build.publish.aws import Access
from bootc_build.publish.discard import Discarded, discard_ami
from bootc_build.publish.snapshot import volume_gib
from bootc_build.tools.sizes import in_words

_EPILOG = """
Interrupted or killed, the same command goes on where it was: what is uploaded is not uploaded again. A file
beside the disk, DISK.XXXXXXXX.publish, remembers it until everything is done. With --discard added, that
command gives it up: snapshots and images that it made so far are deleted, and then the file.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    clouds = parser.add_subparsers(dest="cloud", metavar="CLOUD", required=True)
    ami = clouds.add_parser(
        "ami",
        help="an image of EC2, uploaded by the EBS direct APIs",
        description="Make an image of EC2 (AMI) of a disk.",
        epilog=_EPILOG,
    )
    ami.add_argument(
        "disk", metavar="DISK", type=Path, help="a disk of: bootc-build disk IMAGE --type ami"
    )
    ami.add_argument("--name", required=True, help="of the image, in every region")
    ami.add_argument("--region", required=True, help="where it is uploaded, like eu-central-1")
    ami.add_argument("--description", default="", metavar="TEXT", help="of image and snapshot")
    ami.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of image and snapshot; may be repeated",
    )
    ami.add_argument(
        "--share-with",
        action="append",
        default=[],
        metavar="ACCOUNT",
        help="an account that may launch it; may be repeated",
    )
    ami.add_argument(
        "--copy-to",
        action="append",
        default=[],
        metavar="REGION",
        help="another region that gets a copy; may be repeated",
    )
    ami.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan and change nothing"
    )
    ami.add_argument(
        "--discard",
        action="store_true",
        help="give up what was interrupted: delete what it made so far (with --dry-run: only say what)",
    )
    ami.add_argument(
        "--workers", type=int, default=8, metavar="N", help="uploads at once (default: 8)"
    )
    ami.add_argument("--profile", metavar="NAME", help="of AWS's shared configuration")
    ami.add_argument(
        "--endpoint-url", metavar="URL", help="what serves instead of AWS's own services"
    )
    ami.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the result"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Publish, or print the plan."""
    request = AmiRequest(
        disk=args.disk,
        name=args.name,
        region=args.region,
        description=args.description,
        tags=_tags(args.tag),
        share_with=tuple(dict.fromkeys(args.share_with)),
        copy_to=tuple(dict.fromkeys(args.copy_to)),
        workers=args.workers,
        access=Access(args.profile, args.endpoint_url, max(args.workers, 1)),
    )
    as_json = args.format == "json"
    if args.discard:
        gone = discard_ami(request, progress, dry_run=args.dry_run)
        print(_gone_as_json(gone) if as_json else _gone_as_text(gone, dry_run=args.dry_run))
        return 0
    if args.dry_run:
        plan = plan_ami(request, progress)
        print(_plan_as_json(plan) if as_json else _plan_as_text(plan))
        return 0
    published = publish_ami(request, progress)
    progress.step("Done")
    print(_as_json(published) if as_json else _as_text(published))
    return 0


def _tags(texts: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in map(_tag, texts):
        if key in tags:
            raise UsageError(f"--tag gives '{key}' twice.", "A key has one value.")
        tags[key] = value
    return tags


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--tag '{text}' has no value.", "Write it like --tag team=os.")
    return key, value


def _plan_as_json(plan: AmiPlan) -> str:
    request = plan.request
    return json.dumps(
        {
            "name": request.name,
            "account": plan.account,
            "region": request.region,
            "copyTo": list(request.copy_to),
            "shareWith": list(request.share_with),
            "tags": dict(request.tags),
            "volumeGiB": volume_gib(plan.blocks.disk_bytes),
            "blocks": len(plan.blocks.blocks),
            "blocksUploaded": plan.uploaded,
            "uploadBytes": plan.blocks.upload_bytes,
            "manifest": None if plan.manifest is None else str(plan.manifest),
            "registration": plan.registration("(the new snapshot)"),
            "notes": list(plan.notes),
        },
        indent=2,
    )


def _plan_as_text(plan: AmiPlan) -> str:
    request, blocks = plan.request, plan.blocks
    volume = f"{volume_gib(blocks.disk_bytes)} GiB"
    how = plan.registration("")
    lines = [
        f"In account {plan.account}, region {request.region}:",
        f"  a snapshot of {volume}, {len(blocks.blocks)} blocks, {in_words(blocks.upload_bytes)} to upload",
        f"  image '{request.name}': {plan.architecture}, {how['BootMode']}, ENA, gp3, IMDSv2 required",
    ]
    if plan.uploaded:
        lines.insert(2, f"  (an earlier run was interrupted: {plan.uploaded} blocks are there)")
    if plan.manifest is None:
        lines.insert(
            1, "  the disk is taken as it is: no manifest with its checksum lies beside it"
        )
    else:
        lines.insert(1, f"  the disk is as it was built: it has the checksum in {plan.manifest}")
    lines += [f"  a copy of it in {region}" for region in request.copy_to]
    if request.share_with:
        lines.append(f"  shared with {', '.join(request.share_with)}")
    if request.tags:
        lines.append(
            f"  tagged {', '.join(f'{key}={value}' for key, value in request.tags.items())}"
        )
    return "\n".join([*lines, *plan.notes, "Nothing was changed."])


def _as_json(published: PublishedAmi) -> str:
    return json.dumps(
        {
            "name": published.name,
            "account": published.account,
            "snapshot": published.snapshot,
            "images": published.images,
        },
        indent=2,
    )


def _as_text(published: PublishedAmi) -> str:
    return "\n".join(f"{image}  {region}" for region, image in published.images.items())


def _gone_as_json(gone: Discarded) -> str:
    leftovers = [
        {key: value for key, value in asdict(each).items() if value} for each in gone.leftovers
    ]
    return json.dumps({"account": gone.account, "deleted": leftovers}, indent=2)


def _gone_as_text(gone: Discarded, *, dry_run: bool) -> str:
    what = "would be deleted" if dry_run else "were deleted"
    lines = [f"In account {gone.account} {what}:"]
    for each in gone.leftovers:
        where = f" in {each.region} ({each.state})" if each.region else ""
        lines.append(f"  {each.kind} {each.name}{where}")
    return "\n".join([*lines, *["Nothing was changed."] * dry_run])
