"""Layers, imported once and kept for the next disk that has them.

Most of the time that a disk takes goes into importing the image's layers into the disk's repository, and an image
that is built again shares all but one or two of them with the one before. So each layer's objects are made here, by
the agent's own importer, and kept; a disk's repository gets hard links to them, and the image's installer finds its
layers in place.

Layout: ``layers/KEY/objects/XX/…`` in the cache folder, and ``layers/KEY/layer.json`` with the commit and a digest
of the objects' names; KEY is a digest of the layer's diff_id and of the importer. For locks, bound and crashes see
:mod:`bootc_build.tools.shelf`; nothing is synced, because nothing is believed:

- Every object that went into a disk is hashed anew while the disk is made, after the installer has ended and before
  the disk gets its name: on its way to an ext4, and beside the program that makes another file system. One that is not
  what its name says, whether a power cut left it half written or an image's installer wrote into it, takes its layer
  out of the cache, and the disk is made again without.
- A layer is imported by this program from storage, never by an image: no image can slip another one a layer.
- They are used where the image's agent is the same importer, file by file, so that the disk has the same bytes as if
  the image had imported its layers itself.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from bootc_build.disk.ext4.scan import ScannedTree
from bootc_build.disk.layer_cache import layer_objects
from bootc_build.disk.layer_cache.object_check import ObjectCheck
from bootc_build.disk.layer_cache.object_writer import ObjectsBeside
from bootc_build.disk.layer_cache.stored_layer import StoredTar, Window
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install.layers import FOLDER, INDEX, OBJECTS
from bootc_build.onhost.oci.layerstream import DamagedLayerError
from bootc_build.onhost.oci.manifest import parse_config
from bootc_build.onhost.oci.tarstream import MalformedTarError
from bootc_build.onhost.ostree.importer import Layer, LayerTree
from bootc_build.onhost.progress import Progress
from bootc_build.tools import containers_storage
from bootc_build.tools.cache import cache_folder
from bootc_build.tools.containers_storage import StoredImage, StoredLayer
from bootc_build.tools.shelf import Held, Shelf, chosen_bound
from bootc_build.tools.sizes import GIB

DEFAULT_BOUND: Final = 8 * GIB
BOUND_VARIABLE: Final = "BOOTC_BUILD_LAYER_CACHE"
_AGENT: Final = "usr/lib/bootc/python/bootc_build"
# What decides how a layer's objects come out, and how they are handed over.
_DECIDES: Final = (
    "__init__.py",
    "onhost/cli/install.py",
    "onhost/cli/install_arguments.py",
    "onhost/install/filesystem.py",
    "onhost/install/layers.py",
    "onhost/layer_plan.py",
    "onhost/oci/layerpath.py",
    "onhost/oci/refnames.py",
    "onhost/oci/tarstream.py",
    "onhost/ostree/importer.py",
    "onhost/ostree/objects.py",
    "onhost/ostree/staging.py",
    "onhost/ostree/tree.py",
    "onhost/pull.py",
)
# Bytes of a layer from which on another process is started for its files.
_WORTH_ANOTHER: Final = 16 << 20
_NOTE: Final = "layer.json"
# An object takes whole blocks.
_ROUNDING: Final = 1.1


class LayersRefusedError(Exception):
    """The layers of the cache are of no use for this disk; it has to be made without. Says why."""


def layer_shelf(*, folder: Path | None = None) -> Shelf:
    """Where layers are kept: bounded by $BOOTC_BUILD_LAYER_CACHE, or 8 GiB.

    Args:
        folder: the cache; by default the user's.
    """
    place = (folder or cache_folder()) / "layers"
    return Shelf(place, chosen_bound(BOUND_VARIABLE, DEFAULT_BOUND), durable=False)


def importer_of(package: Path) -> str | None:
    """A digest of the importer in a copy of this package, or None where it is another one altogether."""
    try:
        texts = [hashlib.sha256((package / name).read_bytes()).hexdigest() for name in _DECIDES]
    except OSError:
        return None
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()


@dataclass(frozen=True)
class _Kept:
    """A layer that is in use."""

    key: str
    diff_id: str
    commit: str
    objects: Path
    names: Sequence[str]


class Layers:
    """The imported layers of an image, which stay while the ``with`` block of `imported_layers` lasts.

    Attributes:
        image: what was found of the image in storage.
    """

    def __init__(self, image: StoredImage, kept: Sequence[_Kept]) -> None:
        self.image = image
        self._kept = kept
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._check: list[Callable[[], list[str]]] = []
        self._seen: ObjectCheck | None = None

    def hand_over(self, target: Path, *, link: bool) -> None:
        """Put the layers into the target of an installation.

        Args:
            target: the folder that is installed to.
            link: hard links, where both are in one file system; otherwise copies.

        Raises:
            OSError: no space left.
        """
        place = target / FOLDER / OBJECTS
        place.mkdir(parents=True)
        there: set[str] = set()
        for layer in self._kept:
            for folder in {name[:2] for name in layer.names}.difference(there):
                (place / folder).mkdir(mode=0o755)
                there.add(folder)
            for name in layer.names:
                _place(f"{layer.objects}/{name}", f"{place}/{name}", link=link)
        index = {layer.diff_id: layer.commit for layer in self._kept}
        (target / FOLDER / INDEX).write_text(json.dumps(index))

    def begin_check(self) -> None:
        """Begin to hash every object, beside what is done meanwhile."""
        self._check.append(self._pool.submit(self._damaged).result)

    def check_on_the_way(self, tree: ScannedTree) -> ObjectCheck:
        """What hashes every object while it is written to the disk, in place of that.

        Args:
            tree: the root file system, with the repository.
        """
        self._seen = ObjectCheck(tree)
        return self._seen

    def damaged(self) -> list[str]:
        """Keys of layers with an object that is not what its name says; waits for the check."""
        if self._seen is not None and self._seen.complete:
            return [layer.key for layer in self._kept if not self._was_whole(layer, self._seen)]
        if not self._check:
            self.begin_check()
        return self._check[0]()

    def close(self) -> None:
        """End a check that nobody waits for any more."""
        self._stop.set()
        self._pool.shutdown()

    def _was_whole(self, layer: _Kept, seen: ObjectCheck) -> bool:
        """Whether nothing was wrong on the way to the disk, nor is with what did not go there."""
        left = [name for name in layer.names if name not in seen.names]
        return seen.wrong.isdisjoint(layer.names) and self._is_whole(layer, left)

    def _damaged(self) -> list[str]:
        return [layer.key for layer in self._kept if not self._is_whole(layer, layer.names)]

    def _is_whole(self, layer: _Kept, names: Iterable[str]) -> bool:
        try:
            return all(
                self._stop.is_set() or layer_objects.is_whole(layer.objects, name) for name in names
            )
        except OSError:
            return False


@contextmanager
def imported_layers(
    image_id: str, root: Path, shelf: Shelf, spare: int, progress: Progress
) -> Iterator[Layers | None]:
    """The layers of an image, imported where they are not yet; None where that is not to be had.

    When the block ends well, so has the check of all objects.

    Args:
        image_id: 64 hex digits.
        root: the image's root file system.
        shelf: where they are kept.
        spare: bytes that have to stay free where they are kept.
        progress: hears of what is imported.

    Raises:
        LayersRefusedError: what was used was damaged, and is gone from the cache now; nothing of the block's
            results may be used.
    """
    with ExitStack() as holds:
        layers = None
        try:
            image = _known_image(image_id, root)
            if image is not None and (kept := _keep(image, shelf, spare, progress, holds)):
                layers = Layers(image, kept)
        except (OSError, UserError, containers_storage.UnknownStorageError) as error:
            # The image's own import says what is wrong with it, or does without.
            progress.detail(f"Its layers are not kept: {error}")
        if layers is None:
            yield None
            return
        damaged: list[str] = []
        try:
            yield layers
            damaged = layers.damaged()
        except UserError:
            damaged = layers.damaged()
            if not damaged:
                raise
        finally:
            layers.close()
    if damaged:
        for key in damaged:
            shelf.discard(key)
        raise LayersRefusedError("Layers of the cache were damaged and are removed")


def _known_image(image_id: str, root: Path) -> StoredImage | None:
    """An image whose own importer would make the same of its layers as this one."""
    importer = _own_importer()
    if importer is None or importer != importer_of(root / _AGENT):
        return None
    image = containers_storage.find_image(image_id)
    return None if parse_config(image.config).base_layers else image


@cache
def _own_importer() -> str | None:
    with as_file(files("bootc_build")) as package:
        return importer_of(Path(package))


def _keep(
    image: StoredImage, shelf: Shelf, spare: int, progress: Progress, holds: ExitStack
) -> list[_Kept]:
    """Take the layers of an image into use; empty where there is no room for them."""
    if not _has_room(image, shelf, spare):
        progress.detail("Its layers are not kept: there is no room for them.")
        return []
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        progress.bytes_done(read, image.size)

    kept = []
    for number, stored in enumerate(image.layers, 1):
        key = _key(stored)
        layer = Layer(stored.diff_id, stored.diff_id, number, len(image.layers))
        for _ in range(2):
            make = partial(_import, image.root, stored, layer, count)
            held = holds.enter_context(_obtained(shelf, key, make, progress, layer))
            found = _look_at(held.path, key, stored.diff_id)
            if found is not None:
                kept.append(found)
                break
            held.close()
            shelf.discard(key)
        else:
            return []
    return kept


def _obtained(
    shelf: Shelf, key: str, make: Callable[[Path], None], progress: Progress, layer: Layer
) -> Held:
    def made(place: Path) -> None:
        progress.step(f"Importing layer {layer.number} of {layer.total}")
        make(place)

    return shelf.obtain(key, made)


def _key(layer: StoredLayer) -> str:
    return hashlib.sha256(f"{_own_importer()} {layer.diff_id}".encode()).hexdigest()[:24]


def _has_room(image: StoredImage, shelf: Shelf, spare: int) -> bool:
    missing = [each for each in image.layers if not (shelf.folder / _key(each)).is_dir()]
    needed = int(sum(each.size for each in missing) * _ROUNDING)
    place = next(path for path in (shelf.folder, *shelf.folder.parents) if path.exists())
    return needed <= shelf.bound and shutil.disk_usage(place).free >= needed + spare


def _import(
    root: Path, stored: StoredLayer, layer: Layer, count: Callable[[int], None], place: Path
) -> None:
    objects = place / OBJECTS
    objects.mkdir(mode=0o755)
    parts = containers_storage.tar_parts(root, stored.id)
    if stored.size < _WORTH_ANOTHER:
        with layer_objects.LayerObjects(objects) as store:
            commit = _read(StoredTar(parts, Window(), count), LayerTree(store, layer), layer)
    else:
        with ObjectsBeside(objects) as store:
            commit = _read(StoredTar(parts, store.window, count), LayerTree(store, layer), layer)
    note = {"commit": commit, "names": _digest(layer_objects.names(objects))}
    (place / _NOTE).write_text(json.dumps(note))


def _read(tar: StoredTar, tree: LayerTree, layer: Layer) -> str:
    """As `read_layer` of the importer does it."""
    try:
        for entry in tar.entries():
            tree.add(tar, entry)
    except MalformedTarError as exc:
        raise DamagedLayerError(f"{layer.name} is not a proper tar: {exc.fact}") from exc
    tar.verify(layer)
    return tree.write(tar.tar_bytes)


def _look_at(place: Path, key: str, diff_id: str) -> _Kept | None:
    """What is kept of a layer, if all names are there and it is the layer."""
    objects = place / OBJECTS
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads((place / _NOTE).read_text())
        names = layer_objects.names(objects)
        whole = note["names"] == _digest(names)
        if whole and layer_objects.diff_id(objects, note["commit"]) == diff_id:
            return _Kept(key, diff_id, note["commit"], objects, names)
    return None


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _place(source: str, target: str, *, link: bool) -> None:
    if link:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:  # another layer has the same
            return
        except OSError:  # another file system, or it has all the links that it may have
            pass
        else:
            return
    if not os.path.lexists(target):
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    """Copy a file or link with all that belongs to it."""
    status = os.lstat(source)
    shutil.copy2(source, target, follow_symlinks=False)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not os.path.islink(target):  # noqa: PTH114 - thousands of them
        # Again: changing the owner clears the set-user-id bit and file capabilities.
        shutil.copystat(source, target)
