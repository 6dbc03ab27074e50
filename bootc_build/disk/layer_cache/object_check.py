"""Objects of a repository, hashed while they are written to the disk: what is there is what its name says."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.disk.ext4.scan import Node, ScannedTree
from bootc_build.disk.layer_cache import layer_objects

if TYPE_CHECKING:
    from hashlib import _Hash

_OBJECTS: Final = "ostree/repo/objects"
_ZEROS: Final = bytes(1 << 20)


class ObjectCheck:
    """Sees every file of a file system on its way to the disk (see `ext4.fill.Witness`).

    Args:
        tree: the root file system.

    Attributes:
        complete: whether all were seen.
        names: of all objects that there are.
        wrong: names of objects ("ab/cdef….file") that are not what they are called.
    """

    def __init__(self, tree: ScannedTree) -> None:
        self.complete = False
        self.names: set[str] = set()
        self.wrong: set[str] = set()
        self._names: dict[int, list[str]] = {}
        self._left: dict[int, Node] = {}
        for folder, inside in _folder(tree.root, _OBJECTS).names:
            for name, node in inside.names:
                full = os.fsdecode(folder + b"/" + name)
                self.names.add(full)
                self._names.setdefault(id(node), []).append(full)
                self._left[id(node)] = node

    def begin(self, node: Node) -> "list[_Hash]":
        """What is to see the file's bytes, in their order."""
        names = self._names.get(id(node))
        if names is None:
            return []
        del self._left[id(node)]
        if any(name.endswith(".file") for name in names):
            return _begun(node)
        return [hashlib.sha256()]

    def end(self, node: Node, digests: "Iterable[_Hash]") -> None:
        """The file's last byte was seen."""
        found = [digest.hexdigest() for digest in digests]
        for name in self._names.get(id(node), ()):
            if name.partition(".")[0].replace("/", "") not in found:
                self.wrong.add(name)

    def finish(self) -> None:
        """All that has contents was seen; links and holes are left."""
        for node in list(self._left.values()):
            digests = self.begin(node)
            if stat.S_ISREG(node.mode):
                for at in range(0, node.size, len(_ZEROS)):
                    for digest in digests:
                        digest.update(_ZEROS[: node.size - at])
            self.end(node, digests)
        self.complete = True


def _folder(root: Node, path: str) -> Node:
    node = root
    for part in Path(path).parts:
        node = dict(node.names).get(os.fsencode(part), Node(b"", stat.S_IFDIR, 0, 0))
    return node


def _begun(node: Node) -> "list[_Hash]":
    xattrs = {os.fsencode(name): value for name, value in node.xattrs.items()}
    owners = (node.uid, node.gid, node.mode)
    return layer_objects.begun(owners, xattrs, os.fsdecode(node.target))
