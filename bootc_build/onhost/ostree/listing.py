"""List a part of a commit with owners, modes and contents, without a checkout."""

import hashlib
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

import gi

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo

gi.require_version("OSTree", "1.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first

_CHUNK = 1 << 20
_S_IFDIR = 0o040000


class Listed(NamedTuple):
    """A path in a commit.

    Attributes:
        path: relative to what was listed.
        uid: owner.
        gid: group.
        mode: with the kind.
        target: where a link leads, else empty.
        checksum: of the file object; empty for a directory.
        size: bytes of a regular file.
    """

    path: str
    uid: int
    gid: int
    mode: int
    target: str
    checksum: str
    size: int


class CommitListing:
    """One commit of a repository."""

    def __init__(self, repo: Repo, commit: str) -> None:
        self._native = repo.native
        self._store = ObjectStore(repo)
        self._commit = commit

    def walk(self, directory: str, *, depth: int = 100) -> Iterator[Listed]:
        """What is below a directory, each directory before what is in it; nothing where there is none.

        Args:
            directory: relative to the root.
            depth: how many levels of directories are looked into.

        Raises:
            UserError: the commit is damaged.
        """
        try:
            found = self._find(directory)
            if found is not None:
                yield from self._below(found, "", depth)
        except GLib.Error as error:
            raise UserError(f"Commit {self._commit} cannot be read: {error.message}") from error

    def digest(self, checksum: str) -> str:
        """SHA-256 of the content of a regular file's object."""
        hasher = hashlib.sha256()
        for chunk in self._store.chunks(checksum, _CHUNK):
            hasher.update(chunk)
        return hasher.hexdigest()

    def _find(self, directory: str) -> str | None:
        tree = self._store.root_of(self._commit)[0]
        for name in directory.split("/"):
            found = self._store.load_directory(tree).dirs.get(name)
            if found is None:
                return None
            tree = found[0]
        return tree

    def _below(self, tree: str, path: str, depth: int) -> Iterator[Listed]:
        directory = self._store.load_directory(tree)
        for name, checksum in directory.files.items():
            info = self._native.load_file(checksum, None)[2]
            uid, gid, mode = (
                info.get_attribute_uint32(f"unix::{key}") for key in ("uid", "gid", "mode")
            )
            target = (info.get_symlink_target() or "") if info.get_is_symlink() else ""
            where = posixpath.join(path, name)
            yield Listed(where, uid, gid, mode, target, checksum, info.get_size())
        for name, (below, meta) in directory.dirs.items():
            uid, gid, mode, _xattrs = self._store.load_dirmeta(meta)
            where = posixpath.join(path, name)
            yield Listed(where, uid, gid, _S_IFDIR | mode, "", "", 0)
            if depth > 1:
                yield from self._below(below, where, depth - 1)
