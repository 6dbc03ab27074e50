"""Lay layers over one another: the rule of OCI images, on directory objects alone.

No file is touched and nothing is checked out: a directory that only one layer has is taken over by its checksum.
For every directory that an upper layer goes into: first an opaque marker empties it, then whiteouts remove
names, then the layer's own entries come; a name that changes its kind (file, link, directory) is replaced
whole. Source: OCI image specification, "Image Layer Filesystem Changeset".

The rule needs no libostree: it reads and writes directories through `DirectoryStore`.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.layerpath import OPAQUE, WHITEOUT_PREFIX
from bootc_build.onhost.ostree.tree import Directory

# buildah leaves these behind as mount points; an empty one would shadow what the host is told by DHCP.
_INJECTED: Final = ("usr/etc/hostname", "usr/etc/resolv.conf")


class DirectoryStore(Protocol):
    """Where directories are read from and written to."""

    def load_directory(self, checksum: str) -> Directory:
        """The names in a directory."""

    def write_directory(self, directory: Directory) -> str:
        """Keep a directory; its checksum."""

    def is_empty_file(self, checksum: str) -> bool:
        """Whether a file is a regular one without content."""


@dataclass(frozen=True)
class LayerContent:
    """One layer as it is stored.

    Args:
        name: how errors call it.
        tree: checksum of the root's names.
        meta: checksum of the root's owner and mode.
        implied: directories (the root is the empty path) of whose owner and mode the layer says nothing.
        hardlinks: path to target, where the target is in a lower layer.
        whiteouts: whether the layer may remove anything.
    """

    name: str
    tree: str
    meta: str
    implied: Container[str] = frozenset()
    hardlinks: Mapping[str, str] = field(default_factory=dict)
    whiteouts: bool = True


class _Node:
    """A directory of the merged tree, its names read only when a layer goes into it."""

    __slots__ = ("_directory", "_dirs", "_store", "_tree", "meta")

    def __init__(self, store: DirectoryStore, tree: str | None, meta: str) -> None:
        self.meta = meta
        self._store = store
        self._tree = tree
        self._directory: Directory | None = None if tree else Directory()
        self._dirs: dict[str, _Node] = {}

    @property
    def directory(self) -> Directory:
        """Names; for directories those that have no node yet."""
        if self._directory is None:
            assert self._tree is not None  # noqa: S101 - one of the two is always there
            loaded = self._store.load_directory(self._tree)
            self._directory = Directory(dict(loaded.files), dict(loaded.dirs))
        return self._directory

    @property
    def files(self) -> dict[str, str]:
        return self.directory.files

    def child(self, name: str) -> "_Node | None":
        """The node of a directory in this one, or None."""
        node = self._dirs.get(name)
        if node is None and name in self.directory.dirs:
            node = self._dirs[name] = _Node(self._store, *self.directory.dirs.pop(name))
        return node

    def take(self, name: str, tree: str, meta: str) -> None:
        """Put in a whole directory by its checksums."""
        self.remove(name)
        self.directory.dirs[name] = (tree, meta)

    def make(self, name: str, meta: str) -> "_Node":
        """Put in an empty directory."""
        self.remove(name)
        node = self._dirs[name] = _Node(self._store, None, meta)
        return node

    def put(self, name: str, content: str) -> None:
        """Put in a file."""
        self.remove(name)
        self.files[name] = content

    def remove(self, name: str) -> None:
        """Take a name out, whatever it is."""
        self.files.pop(name, None)
        self.directory.dirs.pop(name, None)
        self._dirs.pop(name, None)

    def clear(self) -> None:
        """Take everything out."""
        self._directory = Directory()
        self._dirs = {}

    def write(self) -> str:
        """Write what changed; the checksum of the names."""
        if self._directory is None:
            assert self._tree is not None  # noqa: S101 - one of the two is always there
            return self._tree
        dirs = dict(self._directory.dirs)
        dirs.update({name: (node.write(), node.meta) for name, node in self._dirs.items()})
        return self._store.write_directory(Directory(self._directory.files, dirs))


def merge_layers(store: DirectoryStore, layers: Iterable[LayerContent]) -> tuple[str, str]:
    """Merge layers, lowest first.

    Returns:
        The checksums of the merged root: names, and owner and mode.

    Raises:
        UserError: a hard link leads to a file that no lower layer has.
    """
    root: _Node | None = None
    for layer in layers:
        if root is None:
            root = _Node(store, None, layer.meta)
        elif "" not in layer.implied:
            root.meta = layer.meta
        # Links lead to what was there before the layer: it may remove its own target.
        links = {
            path: _resolve(root, target, path, layer) for path, target in layer.hardlinks.items()
        }
        _apply(store, root, layer.tree, "", layer)
        for path, content in links.items():
            _put_link(root, path, content)
    if root is None:
        raise UserError("The image has no layers.")
    _remove_injected(store, root)
    return root.write(), root.meta


def _apply(store: DirectoryStore, node: _Node, tree: str, path: str, layer: LayerContent) -> None:
    upper = store.load_directory(tree)
    removed = [name for name in upper.files if name.startswith(WHITEOUT_PREFIX)]
    if OPAQUE in upper.files:
        node.clear()
    for name in removed:
        node.remove(name.removeprefix(WHITEOUT_PREFIX))
    for name, content in upper.files.items():
        if not name.startswith(WHITEOUT_PREFIX):
            node.put(name, content)
    for name, (subtree, meta) in upper.dirs.items():
        below = f"{path}/{name}" if path else name
        child = node.child(name)
        if child is None:
            if not (layer.whiteouts and _has_whiteouts(store, subtree)):
                node.take(name, subtree, meta)
                continue
            child = node.make(name, meta)
        elif below not in layer.implied:
            child.meta = meta
        _apply(store, child, subtree, below, layer)


def _has_whiteouts(store: DirectoryStore, tree: str) -> bool:
    directory = store.load_directory(tree)
    return any(name.startswith(WHITEOUT_PREFIX) for name in directory.files) or any(
        _has_whiteouts(store, subtree) for subtree, _meta in directory.dirs.values()
    )


def _find(root: _Node, path: str) -> tuple[_Node | None, str]:
    """The directory that a path is in, and the last name."""
    *parents, name = path.split("/")
    node: _Node | None = root
    for parent in parents:
        node = node.child(parent) if node else None
    return node, name


def _resolve(root: _Node, target: str, path: str, layer: LayerContent) -> str:
    node, name = _find(root, target)
    content = node.files.get(name) if node else None
    if content is None:
        raise UserError(
            f"{layer.name}, path '{path}': is a hard link to '{target}', which no layer below has.",
            "Build the image again; the tool that wrote this layer left the target out.",
        )
    return content


def _put_link(root: _Node, path: str, content: str) -> None:
    node, name = _find(root, path)
    # The layer's tree has the directory, if only as an implied one.
    assert node is not None  # noqa: S101
    node.put(name, content)


def _remove_injected(store: DirectoryStore, root: _Node) -> None:
    for path in _INJECTED:
        node, name = _find(root, path)
        content = node.files.get(name) if node else None
        if node and content and store.is_empty_file(content):
            node.remove(name)
