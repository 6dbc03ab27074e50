"""``bootc-build disk``: an image becomes disk files."""

import argparse
import json
import re
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.config.disk import FILE_SYSTEMS
from bootc_build.config.load import load_configuration
from bootc_build.config.schema import disk_schema
from bootc_build.config.source import ConfigurationSource
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.deliver import WrittenDisk
from bootc_build.disk.ec2 import CloudInit
from bootc_build.disk.formats import Compression, DiskType
from bootc_build.disk.layout import Overrides
from bootc_build.disk.verify import build_disk_twice
from bootc_build.disk.wanted import LARGEST_DISK, LARGEST_DISK_BYTES, MOST_UPDATES
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.rootless import enter
from bootc_build.tools.sizes import in_words, parse_size

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="name or id of an image in local storage")
    parser.add_argument(
        "--type",
        default=DiskType.RAW.value,
        metavar="TYPE[,TYPE…]",
        help=f"formats to write: {', '.join(DiskType)} (default: raw)",
    )
    parser.add_argument(
        "--compression",
        choices=[kind.value for kind in Compression],
        help="how qcow2 is compressed (default: zstd)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="folder to write to (default: .)"
    )
    parser.add_argument(
        "--name", default="disk", help="file name without suffix (default: disk, so disk.raw)"
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        help="size of the whole disk, like 20G (default: the smallest that holds the image and its updates)",
    )
    parser.add_argument(
        "--root-size",
        metavar="SIZE",
        help="size of the root partition, which then does not grow at boot (default: what is left)",
    )
    parser.add_argument(
        "--updates",
        type=int,
        metavar="N",
        help="how many further versions of the image shall fit beside the first (default: 1)",
    )
    parser.add_argument(
        "--filesystem",
        choices=FILE_SYSTEMS,
        help="of the root (default: what the image asks for, or ext4)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="disk.yaml, or bootc-image-builder's config.toml or config.json; flags come before it "
        "(default: the one that the image brings along)",
    )
    parser.add_argument(
        "--print-schema",
        action=_PrintSchema,
        nargs=0,
        help="print the JSON Schema of disk.yaml, and do nothing else",
    )
    parser.add_argument(
        "--target-imgref",
        metavar="REF",
        help="the image that the host follows, like registry.example/os:latest (default: IMAGE's own name)",
    )
    parser.add_argument(
        "--karg",
        action="append",
        default=[],
        metavar="ARG",
        help="a kernel argument more; may be repeated",
    )
    parser.add_argument(
        "--bound-images",
        choices=("stored", "skip"),
        default="stored",
        help="container images that the system binds: 'skip' leaves them to its first upgrade; otherwise "
        "an image that binds some is refused, because they cannot be put into the disk here",
    )
    parser.add_argument(
        "--cloud-init",
        choices=[kind.value for kind in CloudInit],
        default=CloudInit.IMAGE.value,
        help="'image' leaves it as the image has it, and type ami refuses an image without; 'none' switches "
        "it off",
    )
    parser.add_argument(
        "--root-ssh-authorized-keys",
        type=Path,
        metavar="FILE",
        help="public keys that may log in as root",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="have the image import all its layers, and keep none for the next disk",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="build twice, and fail where the second build differs, naming what does",
    )
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print what was written"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Make the disks and print their paths."""
    configured = None if args.config is None else load_configuration(args.config)
    types = _types(args.type)
    if args.compression is not None and DiskType.QCOW2 not in types:
        raise UsageError(
            f"--compression is how qcow2 is compressed, and --type is {', '.join(types)}.",
            "Leave it out, or add qcow2 to --type.",
        )
    request = DiskRequest(
        image=args.image,
        types=types,
        output=args.output,
        name=_name(args.name),
        size=_size("--size", args.size),
        target=None if args.target_imgref is None else parse_target(args.target_imgref),
        kargs=tuple(args.karg),
        root_keys=_keys(args.root_ssh_authorized_keys),
        bound_images=args.bound_images,
        compression=Compression(args.compression or Compression.ZSTD),
        cloud_init=CloudInit(args.cloud_init),
        configuration=configured[0] if configured else None,
        source=configured[1] if configured else ConfigurationSource(),
        overrides=_overrides(args),
        layer_cache=not args.no_cache,
    )
    enter(args.given)
    written = (build_disk_twice if args.verify else build_disk)(request, progress)
    progress.step("Done")
    print(_as_json(written) if args.format == "json" else _as_text(written))
    return 0


def _overrides(args: argparse.Namespace) -> Overrides:
    if args.updates is not None and not 0 <= args.updates <= MOST_UPDATES:
        raise UsageError(f"--updates is {args.updates}.", f"Give 0 to {MOST_UPDATES}.")
    return Overrides(args.filesystem, _size("--root-size", args.root_size), args.updates)


def _size(flag: str, text: str | None) -> int | None:
    size = None if text is None else parse_size(text)
    if size is not None and size > LARGEST_DISK_BYTES:
        raise UsageError(
            f"{flag} is {text}, and the largest disk that can be made has {LARGEST_DISK}.",
            "Give less; a disk can be enlarged afterwards.",
        )
    return size


class _PrintSchema(argparse.Action):
    """Prints the JSON Schema of disk.yaml, and that is all."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> None:
        print(disk_schema(), end="")
        parser.exit()


def _types(text: str) -> list[DiskType]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(DiskType):
            raise UsageError(
                f"'{name}' is not a type of disk.", f"Known types: {', '.join(DiskType)}"
            )
    if not names:
        raise UsageError("--type is empty.", f"Known types: {', '.join(DiskType)}")
    return [kind for kind in DiskType if kind in names]


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"'{text}' cannot be the name of a disk.", "Use letters, digits, '.', '_', '+' and '-'."
        )
    return text


def _keys(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(
            f"The keys in '{path}' cannot be read: {reason}.",
            "Give a file like ~/.ssh/id_ed25519.pub.",
        ) from error


def _as_text(written: list[WrittenDisk]) -> str:
    return "\n".join(
        f"{disk.path}  ({in_words(disk.disk_bytes)} disk, {in_words(disk.stored_bytes)} stored)"
        for disk in written
    )


def _as_json(written: list[WrittenDisk]) -> str:
    return json.dumps(
        [
            {
                "type": disk.type.value,
                "path": str(disk.path),
                "diskBytes": disk.disk_bytes,
                "fileBytes": disk.file_bytes,
                "storedBytes": disk.stored_bytes,
                "sha256": disk.sha256,
            }
            for disk in written
        ],
        indent=2,
    )
