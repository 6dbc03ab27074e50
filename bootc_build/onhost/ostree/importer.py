"""Turn one layer's tar stream into a commit.

The commit holds the layer as it is: whiteouts stay as files of their names and are resolved at the merge, as
upstream has it. What a tree cannot say goes into the commit's metadata:

    bootc.layer.diff-id    digest of the tar
    bootc.layer.implied    directories that the layer goes through but has no entry for: it says nothing
                           of their mode and owner, so the merge must leave those alone
    bootc.layer.hardlinks  hard links to files of lower layers: path -> target
    bootc.layer.labels     digest of the SELinux policy that its files are labelled by
    bootc.layer.tar-bytes  length of the tar
    bootc.layer.whiteouts  whether the layer removes anything; what removes nothing need not be searched for it

Everything is written in one libostree transaction, which ends only when the digests of blob and tar are right:
until then no object is in its place and nothing refers to it. A process that is killed leaves a staging folder
that libostree removes later.

/var stays in the commit where it is, as upstream keeps it: libostree copies it into a stateroot's empty var at the
first deployment (since 2024.3) and ignores it at every later one. An older libostree never looks at it.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bootc_build import __version__
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci import layerpath, tarstream
from bootc_build.onhost.oci.layerstream import DamagedLayerError, LayerStream
from bootc_build.onhost.oci.refnames import layer_ref
from bootc_build.onhost.oci.tarstream import MalformedTarError, TarEntry, TarReader
from bootc_build.onhost.ostree.tree import Directory

if TYPE_CHECKING:
    # Not loaded for what needs no libostree: layers are prepared on build machines without it.
    from bootc_build.onhost.ostree.repo import Repo
    from bootc_build.onhost.ostree.selinux import Labels

META_DIFF_ID: Final = "bootc.layer.diff-id"
META_IMPLIED: Final = "bootc.layer.implied"
META_HARDLINKS: Final = "bootc.layer.hardlinks"
META_WHITEOUTS: Final = "bootc.layer.whiteouts"
META_LABELS: Final = "bootc.layer.labels"
META_TAR_BYTES: Final = "bootc.layer.tar-bytes"
META_IMPORTER: Final = "ostree.importer.version"

# Up to here a file is handed over whole; above it goes through in pieces, so memory does not grow with it.
_INLINE_BYTES: Final = 512 * 1024
_SYSROOT: Final = "sysroot/"
_OBJECT: Final = re.compile(r"sysroot/ostree/repo/objects/([0-9a-f]{2})/([0-9a-f]{62})\.file")
# Linux's NAME_MAX and PATH_MAX.
_MAX_NAME: Final = 255
_MAX_TARGET: Final = 4095


@dataclass(frozen=True)
class Layer:
    """Which layer: blob digest, diff_id, place (from 1), number of all layers, the history line that made it."""

    digest: str
    diff_id: str
    number: int = 1
    total: int = 1
    made_by: str = ""

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"Layer {self.number} of {self.total} ({self.digest[:19]})"


class LayerContentError(UserError):
    """A layer has something that cannot be part of a bootable system; names layer, path and history line."""

    def __init__(self, layer: Layer, path: str, problem: str, remedy: str = "") -> None:
        made_by = f" The layer was made by: {layer.made_by}" if layer.made_by else ""
        super().__init__(f"{layer.name}, path '{path}': {problem}.{made_by}", remedy)
        self.path = path


class LayerStore(Protocol):
    """Where a layer's objects go; everything but ``has_file`` writes one and returns its checksum."""

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """A regular file in memory."""

    def write_large_file(
        self,
        uid: int,
        gid: int,
        mode: int,
        xattrs: Mapping[bytes, bytes],
        *,
        size: int,
        chunks: Iterator[bytes],
    ) -> str:
        """A regular file piece by piece."""

    def write_symlink(self, uid: int, gid: int, xattrs: Mapping[bytes, bytes], target: str) -> str:
        """A symbolic link."""

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]) -> str:
        """Owner, permissions and attributes of a directory."""

    def write_directory(self, directory: Directory) -> str:
        """The names in a directory."""

    def write_commit(
        self,
        tree: str,
        dirmeta: str,
        metadata: Mapping[str, tuple[str, object]],
        timestamp: int,
    ) -> str:
        """A commit without a parent."""

    def has_file(self, checksum: str) -> bool:
        """Whether there is such a file object."""


class _Node:
    """A directory while the layer is read; ``meta`` is None until an entry of its own comes."""

    __slots__ = ("dirs", "files", "meta")

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.dirs: dict[str, _Node] = {}
        self.meta: str | None = None


class LayerTree:
    """Collects the entries of one layer and writes their objects."""

    def __init__(self, store: LayerStore, layer: Layer, labels: "Labels | None" = None) -> None:
        self._store = store
        self._layer = layer
        self._labels = labels
        self._objects: dict[str, str] = {}
        self._root = _Node()
        self._nodes = {"": self._root}
        self._hardlinks: dict[str, str] = {}
        self._has_whiteouts = False

    def add(self, reader: TarReader, entry: TarEntry) -> None:
        """Add one entry, reading its content.

        Raises:
            LayerContentError: it has no place in a bootable system.
        """
        path = self._path(entry.name)
        if path is None:
            return
        kind = entry.kind
        if path.startswith(_SYSROOT):
            self._note_object(path, reader, entry)
            return
        if kind == tarstream.DIRECTORY:
            self._add_directory(path, entry)
            return
        directory, _slash, name = path.rpartition("/")
        if not name:
            raise self._bad(path or "/", "the root of the tree must be a directory")
        if name.startswith(layerpath.WHITEOUT_PREFIX):
            self._has_whiteouts = True
        if kind in tarstream.REGULAR:
            content = self._write_file(path, reader, entry)
        elif kind == tarstream.SYMLINK:
            target = self._decode(entry.link)
            if not 0 < len(entry.link) <= _MAX_TARGET:
                raise self._bad(path, "is a symbolic link with an empty or an overlong target")
            xattrs = self._xattrs(path, stat.S_IFLNK | 0o777, entry)
            content = self._store.write_symlink(entry.uid, entry.gid, xattrs, target)
        elif kind == tarstream.HARD_LINK:
            self._add_link(path, entry)
            return
        else:
            raise self._bad(path, *_UNSUPPORTED.get(kind, _UNKNOWN_KIND))
        self._put(directory, name, content)

    def write(self, tar_bytes: int = 0) -> str:
        """Write directories and the commit; its checksum."""
        implied: list[str] = []
        tree, meta = self._write_node(self._root, "", implied)
        metadata: dict[str, tuple[str, object]] = {
            META_DIFF_ID: ("s", self._layer.diff_id),
            META_IMPLIED: ("as", sorted(implied)),
            META_HARDLINKS: ("a{ss}", dict(sorted(self._hardlinks.items()))),
            META_WHITEOUTS: ("b", self._has_whiteouts),
            META_TAR_BYTES: ("t", tar_bytes),
            META_IMPORTER: ("s", __version__),
        }
        if self._labels is not None:
            metadata[META_LABELS] = ("s", self._labels.digest)
        return self._store.write_commit(tree, meta, metadata, timestamp=0)

    def _xattrs(self, path: str, mode: int, entry: TarEntry) -> dict[bytes, bytes]:
        if self._labels is None or path.rpartition("/")[2].startswith(layerpath.WHITEOUT_PREFIX):
            return entry.xattrs
        return self._labels.apply(path, mode, entry.xattrs)

    def _note_object(self, path: str, reader: TarReader, entry: TarEntry) -> None:
        """Something below /sysroot, which is the host's and not the image's.

        On top of an image that is an ostree commit a changed file may come as the object that it was, with hard
        links to it.
        """
        if entry.kind in tarstream.REGULAR:
            # It gets the label of whatever path leads to it, so this layer is labelled at the merge.
            self._labels = None
            self._objects[path] = self._write_file(path, reader, entry)
        elif entry.kind == tarstream.HARD_LINK:
            target = self._path(entry.link) or ""
            if target in self._objects:
                self._objects[path] = self._objects[target]

    def _path(self, raw: bytes) -> str | None:
        name = self._decode(raw)
        if len(raw) > _MAX_NAME and max(map(len, raw.split(b"/"))) > _MAX_NAME:
            raise self._bad(name, f"has a name of more than {_MAX_NAME} bytes in it")
        try:
            return layerpath.clean(name)
        except layerpath.UnsafePathError as exc:
            raise self._bad(name, "climbs out of its directory with '..'") from exc

    def _decode(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as exc:
            raise self._bad(
                raw.decode(errors="backslashreplace"),
                "is not UTF-8, which ostree cannot store",
                "Rename the file in the Containerfile.",
            ) from exc

    def _write_file(self, path: str, reader: TarReader, entry: TarEntry) -> str:
        store = self._store
        xattrs = self._xattrs(path, stat.S_IFREG | entry.mode, entry)
        if entry.size <= _INLINE_BYTES:
            data = reader.read(entry)
            return store.write_file(entry.uid, entry.gid, entry.mode, xattrs, data)
        return store.write_large_file(
            entry.uid,
            entry.gid,
            entry.mode,
            xattrs,
            size=entry.size,
            chunks=reader.chunks(entry),
        )

    def _add_directory(self, path: str, entry: TarEntry) -> None:
        node = self._directory(path)
        xattrs = self._xattrs(path, stat.S_IFDIR | entry.mode, entry)
        node.meta = self._store.write_dirmeta(entry.uid, entry.gid, entry.mode, xattrs)

    def _add_link(self, path: str, entry: TarEntry) -> None:
        target = self._path(entry.link)
        if target is None:
            raise self._bad(
                path, f"is a hard link to '{self._decode(entry.link)}', which is not kept"
            )
        directory, _slash, name = path.rpartition("/")
        target_directory, _slash, target_name = target.rpartition("/")
        node = self._nodes.get(target_directory)
        content = node.files.get(target_name) if node else None
        if target.startswith(_SYSROOT):
            content = self._object(path, target)
        if content is not None:
            self._put(directory, name, content)
            return
        # The target is in a lower layer, or is itself such a link.
        self._put(directory, name, None)
        self._hardlinks[path] = self._hardlinks.get(target, target)

    def _object(self, path: str, target: str) -> str:
        """The file that a hard link to an object of the image's own repository means."""
        match = _OBJECT.fullmatch(target)
        content = self._objects.get(target) or ("".join(match.groups()) if match else "")
        if not content or (target not in self._objects and not self._store.has_file(content)):
            raise self._bad(path, f"is a hard link to '{target}', which is not kept")
        return content

    def _put(self, directory: str, name: str, content: str | None) -> None:
        """Give a name a content; None only takes away what was there."""
        node = self._nodes.get(directory)
        if node is None:
            node = self._directory(directory)
        path = f"{directory}/{name}" if directory else name
        if name in node.dirs:
            self._forget(path, node.dirs.pop(name))
        if self._hardlinks:
            self._hardlinks.pop(path, None)
        if content is None:
            node.files.pop(name, None)
        else:
            node.files[name] = content

    def _directory(self, path: str) -> _Node:
        """The directory of a path, made (without an entry of its own) where it is missing."""
        node = self._nodes.get(path)
        if node is not None:
            return node
        parent_path, _slash, name = path.rpartition("/")
        parent = self._directory(parent_path)
        parent.files.pop(name, None)
        self._hardlinks.pop(path, None)
        node = parent.dirs[name] = self._nodes[path] = _Node()
        return node

    def _forget(self, path: str, node: _Node) -> None:
        """A directory was replaced by something else within the layer: nothing below it is left."""
        self._nodes.pop(path, None)
        for name, child in node.dirs.items():
            self._forget(f"{path}/{name}", child)
        below = path + "/"
        for link in [link for link in self._hardlinks if link.startswith(below)]:
            del self._hardlinks[link]

    def _write_node(self, node: _Node, path: str, implied: list[str]) -> tuple[str, str]:
        if node.meta is None:
            implied.append(path)
            xattrs = self._labels.apply(path, stat.S_IFDIR | 0o755, {}) if self._labels else {}
            node.meta = self._store.write_dirmeta(0, 0, 0o755, xattrs)
        prefix = path + "/" if path else ""
        dirs = {
            name: self._write_node(child, prefix + name, implied)
            for name, child in node.dirs.items()
        }
        return self._store.write_directory(Directory(node.files, dirs)), node.meta

    def _bad(self, path: str, problem: str, remedy: str = "") -> LayerContentError:
        return LayerContentError(self._layer, path, problem, remedy)


_UNKNOWN_KIND: Final = ("is of a kind that tar does not define", "")
_UNSUPPORTED: Final = {
    tarstream.CHARACTER_DEVICE: (
        "is a character device, which ostree cannot store",
        "Remove it in the Containerfile; devices belong into /dev, which the kernel fills.",
    ),
    tarstream.BLOCK_DEVICE: (
        "is a block device, which ostree cannot store",
        "Remove it in the Containerfile; devices belong into /dev, which the kernel fills.",
    ),
    tarstream.FIFO: (
        "is a FIFO, which ostree cannot store",
        "Remove it in the Containerfile and let systemd-tmpfiles make it (type p).",
    ),
}


def import_layer(
    repo: "Repo", stream: LayerStream, layer: Layer, *, labels: "Labels | None" = None
) -> str:
    """Commit a layer and point its ref at the commit, when both its digests are right.

    Args:
        repo: where to.
        stream: the layer's tar.
        layer: which one.
        labels: SELinux labels for its files, where the policy is known already.

    Raises:
        LayerContentError: it has something that a bootable system cannot have.
        DamagedLayerError: it is not what it should be.
        UserError: the repository cannot be written, the disk is full.
    """
    from bootc_build.onhost.ostree.objects import ObjectStore  # noqa: PLC0415
    from bootc_build.onhost.ostree.repo import explained  # noqa: PLC0415

    with explained(repo), repo.transaction():
        store = ObjectStore(repo, direct=True)
        commit = read_layer(LayerTree(store, layer, labels), stream, layer)
        store.set_ref(layer_ref(layer.digest), commit)
    return commit


def read_layer(tree: LayerTree, stream: LayerStream, layer: Layer) -> str:
    """Write a layer's objects and its commit, when both its digests are right; the commit's checksum.

    Raises:
        LayerContentError: it has something that a bootable system cannot have.
        DamagedLayerError: it is not what it should be.
    """
    reader = TarReader(stream.next_chunk)
    try:
        for entry in reader.entries():
            tree.add(reader, entry)
    except MalformedTarError as exc:
        raise DamagedLayerError(f"{layer.name} is not a proper tar: {exc.fact}") from exc
    stream.verify(layer.digest, layer.diff_id)
    return tree.write(stream.tar_bytes)
