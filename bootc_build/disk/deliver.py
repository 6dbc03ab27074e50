"""Finished files get their names, all of them or none, with a manifest of names, sizes and checksums.

The manifest is what says that a set is complete: the old one goes before the first file is replaced, and the
new one comes after the last. A step that fails in between gives every old file its name back.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bootc_build import __version__
from bootc_build.disk.checksums import sync
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.interruption import signals_held

MANIFEST_SUFFIX = "manifest.json"
_MANIFEST_VERSION = 1


@dataclass(frozen=True)
class WrittenDisk:
    """One finished file.

    Attributes:
        type: its format.
        path: where it is.
        disk_bytes: size of the disk that a machine sees.
        stored_bytes: what the file takes in storage.
        file_bytes: the file's length.
        sha256: of the file, in hex; empty where no manifest was asked for.
    """

    type: DiskType
    path: Path
    disk_bytes: int
    stored_bytes: int
    file_bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Provenance:
    """What the manifest says of the disk as a whole.

    Attributes:
        image: the image's name or id as it was given.
        image_id: its id, which is the same in every storage and registry.
        digest: of its manifest, in the storage that it was taken from.
        target: what the host follows.
    """

    image: str
    image_id: str
    digest: str
    target: str


def manifest(provenance: Provenance, disks: Sequence[WrittenDisk]) -> str:
    """The manifest's text; paths in it are names of files beside it."""
    document = {
        "version": _MANIFEST_VERSION,
        "generator": f"bootc-build {__version__}",
        "image": {
            "name": provenance.image,
            "id": provenance.image_id,
            "digest": provenance.digest,
        },
        "target": provenance.target,
        "disks": [
            {
                "type": disk.type.value,
                "file": disk.path.name,
                "diskBytes": disk.disk_bytes,
                "fileBytes": disk.file_bytes,
                "sha256": disk.sha256,
            }
            for disk in disks
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def check_names(output: Path, name: str, types: Sequence[DiskType]) -> None:
    """Require that no folder has a name that a file will get: it would go with all that is in it.

    Raises:
        UsageError: names the folder.
    """
    for suffix in (*(kind.suffix for kind in types), MANIFEST_SUFFIX):
        path = output / f"{name}.{suffix}"
        if path.is_dir():
            raise UsageError(
                f"'{path}' is a folder, and a file of that name is to be written.",
                "Give another --name or --output.",
            )


def of_earlier_builds(output: Path, name: str, types: Sequence[DiskType]) -> list[Path]:
    """Files of other types with this name, which a build of these types leaves as they are."""
    others = (output / f"{name}.{kind.suffix}" for kind in DiskType if kind not in types)
    return [path for path in others if path.is_file()]


def publish(files: Mapping[Path, Path], manifest_file: Path | None, spare: Path) -> None:
    """Give finished files their names, replacing what had them; all of them or none.

    Args:
        files: finished file -> its name; all in one file system.
        manifest_file: the key of the manifest in ``files``; None where there is none.
        spare: an existing folder in the same file system, for what is replaced until all are in place.

    Raises:
        OSError: nothing has changed.
    """
    for file in files:
        sync(file)
    # The manifest last.
    order = sorted(files, key=lambda file: file == manifest_file)
    with signals_held():
        replaced: list[tuple[Path, Path | None]] = []
        try:
            if manifest_file is not None:
                replaced.append((files[manifest_file], _set_aside(files[manifest_file], spare)))
            for file in order:
                target = files[file]
                if file != manifest_file:
                    replaced.append((target, _set_aside(target, spare)))
                file.replace(target)
        except OSError:
            for target, old in reversed(replaced):
                _give_back(target, old)
            raise
    for folder in {target.parent for target in files.values()}:
        sync(folder)


def _set_aside(target: Path, spare: Path) -> Path | None:
    """Move what has this name away; None if nothing has."""
    kept = spare / f"old-{target.name}"
    try:
        target.rename(kept)
    except FileNotFoundError:
        return None
    return kept


def _give_back(target: Path, old: Path | None) -> None:
    with suppress(OSError):
        if old is None:
            target.unlink(missing_ok=True)
        else:
            old.replace(target)
