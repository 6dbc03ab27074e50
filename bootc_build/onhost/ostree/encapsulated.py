"""Images that are an ostree commit split into layers: Fedora CoreOS, the bases of Fedora and CentOS bootc.

Their layers are tars of a repository below ``sysroot/ostree/repo`` beside hard links into it, which make the same
image a root for containers; only the repository is read. Version 1 of the format:

    objects/XX/….commit             in layer 0, with ….commitmeta, all ….dirtree and ….dirmeta
    objects/XX/….file-xattrs        extended attributes as a GVariant, once for many files
    objects/XX/….file-xattrs-link   which of those the next file has: a hard link (or, at last, a copy)
    objects/XX/….file               a regular file or symbolic link; its header has owner and mode

Version 0 has ``xattrs/…`` and ``….file.xattrs`` for the second and third. Layers from 0 up to the label
``ostree.final-diffid`` are such; what follows are ordinary layers on top. Source of the format: ostree-rs-ext.

Each object's checksum is verified. The commit is marked partial until everything that it reaches is there.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final

import gi

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci import tarstream
from bootc_build.onhost.oci.layerstream import DamagedLayerError, LayerStream
from bootc_build.onhost.oci.refnames import layer_ref
from bootc_build.onhost.oci.tarstream import MalformedTarError, TarEntry, TarReader
from bootc_build.onhost.ostree.importer import Layer
from bootc_build.onhost.ostree.objects import ObjectStore, read_xattrs
from bootc_build.onhost.ostree.repo import Repo, explained
from bootc_build.onhost.ostree.tree import Directory

gi.require_version("OSTree", "1.0")
from gi.repository import GLib, OSTree  # noqa: E402 - the version has to be chosen first

_REPO: Final = re.compile(r"(?:\./|/)?sysroot/ostree/repo/(?P<path>.+)")
_OBJECT: Final = re.compile(r"objects/(?P<head>[0-9a-f]{2})/(?P<tail>[0-9a-f]{62})\.(?P<kind>.+)")
_XATTRS: Final = re.compile(r"xattrs/(?P<checksum>[0-9a-f]{64})")
_METADATA: Final = {"dirtree": OSTree.ObjectType.DIR_TREE, "dirmeta": OSTree.ObjectType.DIR_META}
_SMALL_BYTES: Final = 512 * 1024
_MOST_METADATA: Final = 128 * 1024 * 1024


class _Objects:
    """Reads the objects of one layer."""

    def __init__(self, repo: Repo, layer: Layer, *, with_commit: bool) -> None:
        self.store = ObjectStore(repo, direct=True)
        self.files: set[str] = set()
        self.commit: str | None = None
        self._repo = repo
        self._layer = layer
        self._with_commit = with_commit
        self._known_xattrs: dict[str, dict[bytes, bytes]] = {}
        self._next: tuple[str, dict[bytes, bytes]] | None = None

    def add(self, reader: TarReader, entry: TarEntry) -> None:
        """Take one entry, if it is an object.

        Raises:
            UserError: it is not what it says it is.
        """
        if entry.kind == tarstream.DIRECTORY:
            return
        inside = _REPO.fullmatch(entry.name.decode(errors="backslashreplace"))
        if inside is None:
            return  # a hard link that makes the image a root for containers
        path = inside["path"]
        if old := _XATTRS.fullmatch(path):
            self._keep_xattrs(reader, entry, old["checksum"])
        elif found := _OBJECT.fullmatch(path):
            self._add_object(reader, entry, found["head"] + found["tail"], found["kind"])

    def _add_object(self, reader: TarReader, entry: TarEntry, checksum: str, kind: str) -> None:
        if kind == "file":
            self._add_file(reader, entry, checksum)
        elif kind == "file-xattrs":
            self._keep_xattrs(reader, entry, checksum)
        elif kind in ("file-xattrs-link", "file.xattrs"):
            self._next = (checksum, self._xattrs_of(reader, entry))
        elif kind in ("commit", "commitmeta", *_METADATA):
            if not self._with_commit:
                raise self._bad(f"has {checksum}.{kind}, which only the first layer may have")
            self._add_metadata(self._small(reader, entry), checksum, kind)
        else:
            raise self._bad(f"has an object of the unknown kind '{kind}'")

    def _add_metadata(self, data: bytes, checksum: str, kind: str) -> None:
        native = self._repo.native
        try:
            if kind == "commit":
                if self.commit not in (None, checksum):
                    raise self._bad("has two commits")
                native.mark_commit_partial(checksum, True)
                self.store.write_checked(OSTree.ObjectType.COMMIT, checksum, data)
                self.commit = checksum
            elif kind == "commitmeta":
                content = GLib.Variant.new_from_bytes(
                    GLib.VariantType.new("a{sv}"), GLib.Bytes.new(data), False
                )
                native.write_commit_detached_metadata(checksum, content, None)
            else:
                self.store.write_checked(_METADATA[kind], checksum, data)
        except ValueError as exc:
            raise self._bad(f"has another {kind} under the name {checksum}") from exc

    def _add_file(self, reader: TarReader, entry: TarEntry, checksum: str) -> None:
        if self._next is None or self._next[0] != checksum:
            raise self._bad(f"does not say which extended attributes the file {checksum} has")
        xattrs, self._next = self._next[1], None
        self.files.add(checksum)
        if self.store.has_file(checksum):
            return
        owner = entry.uid, entry.gid
        if entry.kind == tarstream.SYMLINK:
            target = entry.link.decode(errors="surrogateescape")
            actual = self.store.write_symlink(*owner, xattrs, target)
        elif entry.kind not in tarstream.REGULAR:
            raise self._bad(f"has the object {checksum}, which is neither file nor symbolic link")
        elif entry.size <= _SMALL_BYTES:
            actual = self.store.write_file(*owner, entry.mode, xattrs, reader.read(entry))
        else:
            chunks = reader.chunks(entry)
            actual = self.store.write_large_file(
                *owner, entry.mode, xattrs, size=entry.size, chunks=chunks
            )
        if actual != checksum:
            raise self._bad(f"has another file under the name {checksum}")

    def _xattrs_of(self, reader: TarReader, entry: TarEntry) -> dict[bytes, bytes]:
        if entry.kind in tarstream.REGULAR:
            data = self._small(reader, entry)
            return self._keep(hashlib.sha256(data).hexdigest(), data)
        target = entry.link.decode(errors="backslashreplace")
        *_, head, name = ["", *target.split("/")]
        checksum = name if len(name) > 64 - 2 and "." not in name else head + name.partition(".")[0]
        if checksum not in self._known_xattrs:
            raise self._bad(
                f"has a file whose extended attributes '{target}' did not come before it"
            )
        return self._known_xattrs[checksum]

    def _keep_xattrs(self, reader: TarReader, entry: TarEntry, checksum: str) -> None:
        data = self._small(reader, entry)
        if hashlib.sha256(data).hexdigest() != checksum:
            raise self._bad(f"has other extended attributes under the name {checksum}")
        self._keep(checksum, data)

    def _keep(self, checksum: str, data: bytes) -> dict[bytes, bytes]:
        if checksum not in self._known_xattrs:
            self._known_xattrs[checksum] = read_xattrs(data)
        return self._known_xattrs[checksum]

    def _small(self, reader: TarReader, entry: TarEntry) -> bytes:
        if entry.kind not in tarstream.REGULAR or entry.size > _MOST_METADATA:
            raise self._bad(f"has the impossible object '{entry.name.decode(errors='replace')}'")
        return reader.read(entry)

    def _bad(self, problem: str) -> DamagedLayerError:
        return DamagedLayerError(f"{self._layer.name} {problem}")


def _import(
    repo: Repo,
    stream: LayerStream,
    layer: Layer,
    finish: Callable[[_Objects], str],
    *,
    with_commit: bool,
) -> str:
    with explained(repo), repo.transaction():
        objects = _Objects(repo, layer, with_commit=with_commit)
        reader = TarReader(stream.next_chunk)
        try:
            for entry in reader.entries():
                objects.add(reader, entry)
        except MalformedTarError as exc:
            raise DamagedLayerError(f"{layer.name} is not a proper tar: {exc.fact}") from exc
        stream.verify(layer.digest, layer.diff_id)
        commit = finish(objects)
        objects.store.set_ref(layer_ref(layer.digest), commit)
    return commit


def import_objects(repo: Repo, stream: LayerStream, layer: Layer) -> str:
    """Import a layer of file objects; its commit is only a list of them, which keeps them.

    Raises:
        DamagedLayerError: it is not what it should be.
        UserError: the repository cannot be written, the disk is full.
    """

    def finish(objects: _Objects) -> str:
        store = objects.store
        tree = store.write_directory(Directory({name: name for name in objects.files}, {}))
        meta = store.write_dirmeta(0, 0, 0o755, {})
        return store.write_commit(tree, meta, {}, timestamp=0)

    return _import(repo, stream, layer, finish, with_commit=False)


def import_commit(repo: Repo, stream: LayerStream, layer: Layer) -> str:
    """Import the layer with the commit; it stays partial until `finish_commit`.

    Raises:
        DamagedLayerError: it is not what it should be.
        UserError: the repository cannot be written, the disk is full.
    """

    def finish(objects: _Objects) -> str:
        if objects.commit is None:
            raise DamagedLayerError(f"{layer.name} should hold an ostree commit, but has none")
        return objects.commit

    return _import(repo, stream, layer, finish, with_commit=True)


def finish_commit(repo: Repo, commit: str, expected: str) -> None:
    """Check that everything that a commit reaches has come, and mark it as whole.

    Args:
        repo: where it is.
        commit: its checksum.
        expected: the checksum that the image's label names, or empty.

    Raises:
        UserError: something is missing, or it is another commit.
    """
    if expected and commit != expected:
        raise UserError(
            f"The image says that it is the ostree commit {expected}, but holds {commit}.",
            "Build and push the image again.",
        )
    state = repo.native.load_commit(commit)[2]
    if state == OSTree.RepoCommitState.NORMAL:
        return
    store = ObjectStore(repo)
    tree, _meta = store.root_of(commit)
    try:
        missing = _first_missing(store, tree, "", set())
    except GLib.Error as exc:
        raise UserError(
            f"The ostree commit {commit} of the image is not whole: {exc.message}",
            "Build and push the image again.",
        ) from exc
    if missing is not None:
        raise UserError(
            f"The ostree commit {commit} of the image is not whole: '{missing}' is in none of its layers.",
            "Build and push the image again.",
        )
    repo.native.mark_commit_partial(commit, False)


def _first_missing(store: ObjectStore, tree: str, path: str, seen: set[str]) -> str | None:
    if tree in seen:
        return None
    seen.add(tree)
    directory = store.load_directory(tree)
    for name, checksum in directory.files.items():
        if not store.has_file(checksum):
            return f"{path}/{name}"
    for name, (subtree, meta) in directory.dirs.items():
        store.load_dirmeta(meta)
        missing = _first_missing(store, subtree, f"{path}/{name}", seen)
        if missing is not None:
            return missing
    return None
