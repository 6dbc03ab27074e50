"""SELinux labels by an image's own policy, for files that are not in a file system yet.

The policy is what stands in the image: ``/etc/selinux/config`` names its type, ``contexts/files`` of that type
says which path has which label. libostree's SePolicy looks a path up; /usr/etc is labelled as the /etc that it
becomes.

Layers are stored with their labels, and a layer's commit says by which policy: what was labelled once by the same
policy is neither read nor written again. Objects whose label is right already are kept as they are.
"""

import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import gi

from bootc_build.onhost.oci.layerpath import WHITEOUT_PREFIX
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.tree import Directory

gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree  # noqa: E402 - the version has to be chosen first

XATTR: Final = b"security.selinux"
_POLICY: Final = "usr/etc/selinux"
_CHUNK: Final = 1024 * 1024


class Labels:
    """The labels that a policy gives; usable from any thread.

    Args:
        policy: libostree's view of it.
        digest: names what it says, whatever the labels of its own files are.
    """

    def __init__(self, policy: OSTree.SePolicy, digest: str) -> None:
        self.digest = digest
        self._policy = policy
        self._lock = threading.Lock()

    def of(self, path: str, mode: int) -> bytes | None:
        """The attribute's value for a path (relative) and a mode with its kind, or None for no label.

        Raises:
            UserError: the policy cannot be read.
        """
        place = "/" + (path.removeprefix("usr/") if _below(path, "usr/etc") else path)
        with self._lock:
            label: str | None = self._policy.get_label(place, mode, None)[1]
        return None if label is None else label.encode() + b"\0"

    def apply(self, path: str, mode: int, xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Extended attributes with the label that the path should have."""
        label = self.of(path, mode)
        others = {name: value for name, value in xattrs.items() if name != XATTR}
        return others if label is None else {**others, XATTR: label}


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


@contextmanager
def policy_labels(store: ObjectStore, tree: str) -> Iterator[Labels | None]:
    """The labels of the policy in a tree; None when it has no policy, or one that is switched off.

    Args:
        store: where the tree is.
        tree: checksum of the root's names.
    """
    found = _find(store, tree, _POLICY)
    config = found.files.get("config") if found is not None else None
    if found is None or config is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bootc-policy-") as scratch:
        root = Path(scratch)
        digest = hashlib.sha256(_copy(store, config, root / _POLICY / "config"))
        for kind, (subtree, _meta) in sorted(found.dirs.items()):
            for part in ("contexts", "policy"):
                below = _find(store, subtree, part)
                if below is not None:
                    _copy_tree(store, below, root / _POLICY / kind / part, digest, kind)
        try:
            policy = OSTree.SePolicy.new(Gio.File.new_for_path(os.fspath(root)), None)
        except GLib.Error:
            yield None  # a configuration without the policy it names: nothing could enforce it
            return
        yield Labels(policy, digest.hexdigest()) if policy.get_name() else None


def _find(store: ObjectStore, tree: str, path: str) -> Directory | None:
    directory = store.load_directory(tree)
    for name in path.split("/"):
        if name not in directory.dirs:
            return None
        directory = store.load_directory(directory.dirs[name][0])
    return directory


def _copy(store: ObjectStore, checksum: str, target: Path) -> bytes:
    target.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(store.chunks(checksum, _CHUNK))
    target.write_bytes(data)
    return hashlib.sha256(data).digest()


def _copy_tree(
    store: ObjectStore, directory: Directory, target: Path, digest: "hashlib._Hash", kind: str
) -> None:
    for name, checksum in sorted(directory.files.items()):
        if stat.S_ISREG(store.file_facts(checksum).mode):
            content = _copy(store, checksum, target / name)
            if "policy" not in target.parts[-1:]:  # the compiled rules give no labels
                digest.update(f"{kind}/{target.name}/{name}\0".encode() + content)
    for name, (subtree, _meta) in sorted(directory.dirs.items()):
        _copy_tree(store, store.load_directory(subtree), target / name, digest, kind)


def relabel(store: ObjectStore, tree: str, meta: str, labels: Labels) -> tuple[str, str]:
    """A tree with every label as the policy wants it; writes only what differs.

    Args:
        store: where it is; a transaction is open.
        tree: checksum of the root's names.
        meta: checksum of the root's owner and mode.
        labels: what the policy says.

    Returns:
        The two checksums of the tree with labels.
    """
    return _relabel(store, tree, meta, "", labels)


def _relabel(
    store: ObjectStore, tree: str, meta: str, path: str, labels: Labels
) -> tuple[str, str]:
    directory = store.load_directory(tree)
    prefix = path + "/" if path else ""
    files = {
        name: checksum
        if name.startswith(WHITEOUT_PREFIX)
        else _relabel_file(store, checksum, prefix + name, labels)
        for name, checksum in directory.files.items()
    }
    dirs = {
        name: _relabel(store, subtree, submeta, prefix + name, labels)
        for name, (subtree, submeta) in directory.dirs.items()
    }
    uid, gid, mode, xattrs = store.load_dirmeta(meta)
    wanted = labels.apply(path, stat.S_IFDIR | mode, xattrs)
    if wanted != xattrs:
        meta = store.write_dirmeta(uid, gid, mode, wanted)
    if files == directory.files and dirs == directory.dirs:
        return tree, meta
    return store.write_directory(Directory(files, dirs)), meta


def _relabel_file(store: ObjectStore, checksum: str, path: str, labels: Labels) -> str:
    facts = store.file_facts(checksum)
    wanted = labels.of(path, facts.mode)
    if wanted == facts.label:
        return checksum
    xattrs = {name: value for name, value in store.xattrs(checksum).items() if name != XATTR}
    if wanted is not None:
        xattrs[XATTR] = wanted
    return store.write_again(checksum, xattrs)
