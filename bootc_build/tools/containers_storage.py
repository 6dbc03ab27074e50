"""Read an image out of containers-storage's own files: the layers' exact tar streams, at disk speed.

containers-storage keeps a layer unpacked, and beside it a "tar-split" log of what a tar stream has besides
the files' contents. Both together give back the stream, byte for byte. skopeo does the same five times
slower, and remains the way for whatever is not found here in the known form. The layers are named by the
digests of the image's configuration, so whoever reads the streams finds out when one is not right.

Formats: containers/storage ``layers.go`` and ``drivers/overlay`` (folders), vbatts/tar-split (the log).
"""

import base64
import fcntl
import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from bootc_build.onhost.process import CommandError, run

# The most that is read of a file at once.
PIECE_BYTES: Final = 1 << 20
# What is unpacked of a log at once.
_LOG_BYTES = 256 * 1024
_LOOK_AGAIN_SECONDS = 0.02
_FILE, _SEGMENT = 1, 2
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


class UnknownStorageError(Exception):
    """Storage is not in the form that is known here; skopeo may still read it."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer in storage.

    Attributes:
        id: its name in storage.
        diff_id: ``sha256:…`` of its tar stream.
        size: length of its tar stream in bytes.
    """

    id: str
    diff_id: str
    size: int


@dataclass(frozen=True)
class StoredImage:
    """An image in storage whose layers can be read here; made by :func:`find_image`."""

    root: Path
    config: bytes
    annotations: Mapping[str, str]
    layers: tuple[StoredLayer, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers' tar streams."""
        return sum(layer.size for layer in self.layers)


def find_image(image_id: str) -> StoredImage:
    """Look an image up in the storage that buildah uses.

    Args:
        image_id: 64 hex digits.

    Raises:
        UnknownStorageError: it is not there, or not in the known form.
    """
    store = json.loads(run(["buildah", "info"]).stdout)["store"]
    if store["GraphDriverName"] != "overlay":
        raise UnknownStorageError(f"storage driver {store['GraphDriverName']}")
    root = Path(store["GraphRoot"])
    try:
        image = _record(root / "overlay-images/images.json", image_id)
        config = _big_data(root, image_id, f"sha256:{image_id}")
        manifest = json.loads(_big_data(root, image_id, "manifest"))
        layers = tuple(reversed(list(_chain(root, image["layer"]))))
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UnknownStorageError(f"{type(error).__name__}: {error}") from error
    if [layer.diff_id for layer in layers] != diff_ids:
        raise UnknownStorageError("the layers are not those of the configuration")
    if len(set(diff_ids)) != len(diff_ids):
        raise UnknownStorageError("a layer is in the image twice")
    return StoredImage(root, config, dict(manifest.get("annotations") or {}), layers)


@contextmanager
def served_layout(
    image: StoredImage, layout: Path, tag: str, on_bytes: Callable[[int], None]
) -> Iterator[None]:
    """An OCI layout whose layers are FIFOs: each is made while it is read, and stored nowhere.

    Every layer can be read once. Nobody needs to: what is not read is not made. Whoever reads checks the
    digests. The layout's folder stays, with what is dead in it.

    Args:
        image: what :func:`find_image` found.
        layout: folder, made by this.
        tag: the image's name in the layout.
        on_bytes: is told, from other threads, how many bytes were handed over since its last call.

    Raises:
        UnknownStorageError: a command in the block failed after storage could not be read as expected.
        OSError: the layout cannot be written.
    """
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    _write_index(image, layout, blobs, tag)
    servers = [_LayerServer(image.root, layer, blobs, on_bytes) for layer in image.layers]
    try:
        for server in servers:
            server.start()
        yield
    except CommandError as error:
        for server in servers:
            server.stop()
            if server.failure is not None:
                raise UnknownStorageError(str(server.failure)) from error
        raise
    finally:
        for server in servers:
            server.stop()


class _LayerServer(threading.Thread):
    """Writes one layer's tar stream to whoever opens its FIFO."""

    def __init__(
        self, root: Path, layer: StoredLayer, blobs: Path, on_bytes: Callable[[int], None]
    ) -> None:
        super().__init__(name=f"layer {layer.id[:12]}", daemon=True)
        self.failure: UnknownStorageError | None = None
        self._root = root
        self._layer = layer
        self._on_bytes = on_bytes
        self._stopped = threading.Event()
        self._fifo = blobs / layer.diff_id.removeprefix("sha256:")
        os.mkfifo(self._fifo, 0o600)

    def run(self) -> None:
        """Wait for the reader, write, end."""
        try:
            with self._fifo.open("wb", buffering=0) as pipe:
                with suppress(OSError):  # refused when the user's share of pipe memory is spent
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIECE_BYTES)
                with io.BufferedWriter(pipe, PIECE_BYTES) as buffered:
                    self._write(buffered)
        except BrokenPipeError:
            pass  # the reader has had enough
        except UnknownStorageError as error:
            self.failure = error

    def _write(self, pipe: IO[bytes]) -> None:
        for chunk in tar_stream(self._root, self._layer.id):
            if self._stopped.is_set():
                return
            pipe.write(chunk)
            self._on_bytes(len(chunk))

    def stop(self) -> None:
        """End it, whether it waits for a reader, writes, or has ended."""
        self._stopped.set()
        while self.is_alive():
            # A reader that comes and goes ends the wait for one, and breaks the pipe of a writer.
            os.close(os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK))
            self.join(_LOOK_AGAIN_SECONDS)


def _write_index(image: StoredImage, layout: Path, blobs: Path, tag: str) -> None:
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _blob(blobs, _CONFIG_TYPE, image.config),
        "layers": [
            {"mediaType": _LAYER_TYPE, "digest": layer.diff_id, "size": layer.size}
            for layer in image.layers
        ],
    }
    if image.annotations:
        manifest["annotations"] = dict(image.annotations)
    entry = _blob(blobs, _MANIFEST_TYPE, json.dumps(manifest, sort_keys=True).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def _chain(root: Path, top: str) -> Iterator[StoredLayer]:
    """A layer and those below it, from the top."""
    layers = {layer["id"]: layer for layer in _records(root / "overlay-layers/layers.json")}
    name = top
    while name:
        layer = layers[name]
        yield StoredLayer(name, layer["diff-digest"], int(layer.get("diff-size", 0)))
        name = layer.get("parent", "")


def _records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_bytes())
    return found


def _record(path: Path, identifier: str) -> dict[str, Any]:
    for record in _records(path):
        if record["id"] == identifier:
            return record
    raise KeyError(identifier)


def _big_data(root: Path, image_id: str, name: str) -> bytes:
    # Names that are not plain file names are stored under "=" and their base64.
    plain = all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    file = name if plain else "=" + base64.b64encode(name.encode()).decode()
    return (root / "overlay-images" / image_id / file).read_bytes()


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's content as it stands in a layer's tar stream: so many bytes of a file in storage."""

    path: str
    name: str
    size: int

    def read(self, place: Callable[[int], memoryview]) -> Iterator[memoryview]:
        """The content, in pieces of at most 1 MiB where ``place`` puts them: it gives room for so many bytes.

        Raises:
            UnknownStorageError: the file is not there, or shorter.
        """
        try:
            yield from self._pieces(place)
        except OSError as error:
            raise _unknown(error) from error

    def _pieces(self, place: Callable[[int], memoryview]) -> Iterator[memoryview]:
        # Descriptors, not file objects: there are 10,000 files, and a name may be no UTF-8.
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            left = self.size
            while left:
                piece = place(min(left, PIECE_BYTES))
                rest = piece
                while rest:
                    read = os.readv(file, (rest,))
                    if not read:
                        raise UnknownStorageError(f"{self.name} is shorter than its layer says")
                    rest = rest[read:]
                left -= len(piece)
                yield piece
        finally:
            os.close(file)


def tar_stream(root: Path, layer_id: str) -> Iterator[bytes]:
    """The tar stream of a layer, in chunks of at most 1 MiB (a header segment may be longer).

    Args:
        root: containers-storage's graph root.
        layer_id: name of the layer in storage.

    Raises:
        UnknownStorageError: the log is missing or unreadable, or a file is.
    """
    for part in tar_parts(root, layer_id):
        if isinstance(part, StoredFile):
            for piece in part.read(lambda size: memoryview(bytearray(size))):
                yield bytes(piece)
        else:
            yield part


def tar_parts(root: Path, layer_id: str) -> Iterator[bytes | StoredFile]:
    """The tar stream of a layer, with its files as they are in storage and whatever is between them.

    No part is empty. Arguments and errors are those of `tar_stream`, but for reading the files.
    """
    unpacked = root / "overlay" / layer_id / "diff"
    decode = json.JSONDecoder().raw_decode
    try:
        with (
            gzip.open(root / "overlay-layers" / f"{layer_id}.tar-split.gz") as packed,
            io.TextIOWrapper(io.BufferedReader(packed, _LOG_BYTES), "utf-8") as log,
        ):
            for line in log:
                if line.isspace():
                    continue
                entry, _end = decode(line)
                if entry["type"] == _SEGMENT:
                    if entry["payload"]:
                        yield base64.b64decode(entry["payload"])
                elif entry["type"] == _FILE and entry.get("size"):
                    name = _name(entry)
                    yield StoredFile(f"{unpacked}/{name.lstrip('/')}", name, int(entry["size"]))
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise _unknown(error) from error


def _unknown(error: Exception) -> UnknownStorageError:
    return UnknownStorageError(f"{type(error).__name__}: {error}")


def _name(entry: Mapping[str, Any]) -> str:
    # A name that is not UTF-8 is kept as bytes in another field.
    if "name_raw" in entry:
        return os.fsdecode(base64.b64decode(entry["name_raw"]))
    return str(entry["name"])


def _blob(blobs: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
