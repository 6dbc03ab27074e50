"""``bootc image``: the images that this host keeps, and the container storage that bootc owns."""

import argparse
import json
from pathlib import Path

from bootc_build.onhost.cli.output import TextProgress, say

_CONTAINER_COMMANDS = ("list", "build", "pull", "push")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="image_verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list the images that are stored")
    listing.add_argument(
        "--type", choices=("all", "logical", "host"), default="all", help="default: %(default)s"
    )
    listing.add_argument(
        "--format", choices=("table", "json"), default="table", help="default: %(default)s"
    )
    copy = verbs.add_parser(
        "copy-to-storage", help="copy the booted image to the storage of podman and buildah"
    )
    copy.add_argument(
        "--source", metavar="IMAGE", help="another stored image than the booted one, with transport"
    )
    copy.add_argument("--target", metavar="NAME", help="its name there (default: localhost/bootc)")
    default = verbs.add_parser(
        "pull-from-default-storage", help="copy an image of podman's to the storage of bootc"
    )
    default.add_argument("image", metavar="IMAGE", help="its name")
    command = verbs.add_parser("cmd", help="run podman image in the storage of bootc")
    command.add_argument("command", choices=_CONTAINER_COMMANDS, help="what podman image does")
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="podman's arguments")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    verbs = {
        "list": _list,
        "copy-to-storage": _copy,
        "pull-from-default-storage": _pull_from_default,
        "cmd": _command,
    }
    return verbs[args.image_verb](args)


def _list(args: argparse.Namespace) -> int:
    from bootc_build.onhost.host import stored  # noqa: PLC0415 - libostree takes time

    images = stored.list_images(args.type, say)
    if args.format == "json":
        rows = [{"image_type": each.kind, "image": each.image} for each in images]
        print(json.dumps(rows, indent=2))
        return 0
    width = max([len("REPOSITORY"), *(len(each.image) for each in images)])
    print(f" {'REPOSITORY':<{width}}  TYPE")
    for each in images:
        print(f" {each.image:<{width}}  {each.kind}")
    return 0


def _copy(args: argparse.Namespace) -> int:
    from bootc_build.onhost.host import export  # noqa: PLC0415 - libostree takes time
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415

    target = args.target or export.DEFAULT_NAME
    with open_for_change(say) as system:
        image = export.copy_to_storage(system, args.source, target, TextProgress())
    print(f"Pushed: {target} {image}")
    return 0


def _pull_from_default(args: argparse.Namespace) -> int:
    from bootc_build.onhost.bound import storage  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415

    with open_for_change(say) as system:
        storage.copy_one(system.sysroot.path, args.image, TextProgress())
    return 0


def _command(args: argparse.Namespace) -> int:
    from bootc_build.onhost.bound.storage import open_storage  # noqa: PLC0415
    from bootc_build.onhost.host.booted import open_for_change  # noqa: PLC0415

    with open_for_change(say) as system, open_storage(Path(system.sysroot.path)) as storage:
        return storage.run_image_command([args.command, *args.arguments])
