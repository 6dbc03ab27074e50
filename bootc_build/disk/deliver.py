"""Finished files get their names, all of them or none, with a manifest of names, sizes and checksums.

The manifest is what says that a set is complete: the old one goes before the first file is replaced, and the
new one comes after the last. A step that fails in between gives every old file its name back.
"""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from bootc_build import __version__
from bootc_build.disk.formats import DiskType, data_extents
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.interruption import signals_held
from bootc_build.tools.sizes import MIB

if TYPE_CHECKING:
    from hashlib import _Hash

MANIFEST_SUFFIX = "manifest.json"
_MANIFEST_VERSION = 1
_ZEROS = memoryview(bytes(MIB))


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


# A hash, how many bytes it covers, and when it does.
_Front = tuple["_Hash", int, Future[None]]


class Checksums:
    """SHA-256 of files, in hex, computed while other things go on; a context manager.

    Files go to the disk beside that. What is not finished when the block ends is given up.
    """

    def __init__(self) -> None:
        self._given_up = threading.Event()
        # One more, which waits for the disk.
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 1)
        self._fronts: dict[Path, _Front] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._given_up.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, file: Path) -> Future[str]:
        """Begin with a file, which may be renamed from now on.

        Raises:
            OSError: by the result, too.
        """
        return self._pool.submit(self._sha256, file.open("rb"), self._fronts.pop(file, None))

    def begin_sync(self, file: Path) -> Future[None]:
        """Begin to have a finished file on the disk.

        Raises:
            OSError: by the result: it cannot be written there.
        """
        return self._pool.submit(_sync, file)

    def begin_front(self, file: Path, end: int) -> None:
        """Begin with the first bytes of a file whose rest is not written yet; `begin` goes on with that.

        Raises:
            OSError: the file cannot be read.
        """
        if file not in self._fronts:
            digest = hashlib.sha256()
            done = self._pool.submit(self._add, digest, file.open("rb"), 0, end)
            self._fronts[file] = (digest, end, done)

    def _sha256(self, content: IO[bytes], front: "_Front | None") -> str:
        digest, begin = hashlib.sha256(), 0
        if front is not None:
            digest, begin, done = front
            done.result()
        self._add(digest, content, begin, os.fstat(content.fileno()).st_size)
        return digest.hexdigest()

    def _add(self, digest: "_Hash", content: IO[bytes], at: int, stop: int) -> None:
        """Add what a file has from one byte to another; the file is closed."""
        with content:
            # A hole is hashed without being read.
            for start, past in (*data_extents(content.fileno(), stop), (stop, stop)):
                end = min(past, stop)
                while at < end and not self._given_up.is_set():
                    if at < start:
                        part = _ZEROS[: min(start, end) - at]
                    else:
                        content.seek(at)
                        part = memoryview(content.read(min(end - at, len(_ZEROS))))
                        if not part:
                            raise OSError(errno.EIO, "The file became shorter", content.name)
                    digest.update(part)
                    at += len(part)


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
        _sync(file)
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
        _sync(folder)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
