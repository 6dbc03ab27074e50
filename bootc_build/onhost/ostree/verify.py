"""Look for objects of commits that are missing or not what their checksums say."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import gi

from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo

gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree  # noqa: E402 - the version has to be chosen first


@dataclass(frozen=True)
class DamagedObject:
    """One object that is not right.

    Attributes:
        name: checksum and kind, as its file in the repository is called.
        missing: it is not there; otherwise its content is wrong.
        path: where the first commit that was looked at has it.
        commit: that commit.
    """

    name: str
    missing: bool
    path: str
    commit: str


def damaged_objects(repo: Repo, commits: Iterable[str]) -> Iterator[DamagedObject]:
    """Check every object that commits reach, each once; what is below a damaged directory is unknown."""
    seen: set[tuple[OSTree.ObjectType, str]] = set()
    for commit in commits:
        yield from _Walk(repo, commit, seen).check()


class _Walk:
    def __init__(self, repo: Repo, commit: str, seen: set[tuple[OSTree.ObjectType, str]]) -> None:
        self._native = repo.native
        self._store = ObjectStore(repo)
        self._commit = commit
        self._seen = seen

    def check(self) -> Iterator[DamagedObject]:
        found = list(self._object(OSTree.ObjectType.COMMIT, self._commit, "/"))
        yield from found
        if found or (OSTree.ObjectType.COMMIT, self._commit) not in self._seen:
            return
        pending = [("", *self._store.root_of(self._commit))]
        while pending:
            path, tree, meta = pending.pop()
            yield from self._object(OSTree.ObjectType.DIR_META, meta, path or "/")
            if (OSTree.ObjectType.DIR_TREE, tree) in self._seen:
                continue
            damaged = list(self._object(OSTree.ObjectType.DIR_TREE, tree, path or "/"))
            yield from damaged
            if damaged:
                continue
            directory = self._store.load_directory(tree)
            for name, content in directory.files.items():
                yield from self._object(OSTree.ObjectType.FILE, content, f"{path}/{name}")
            pending += [(f"{path}/{name}", *each) for name, each in directory.dirs.items()]

    def _object(self, kind: OSTree.ObjectType, checksum: str, path: str) -> Iterator[DamagedObject]:
        if (kind, checksum) in self._seen:
            return
        self._seen.add((kind, checksum))
        try:
            self._native.fsck_object(kind, checksum, None)
        except GLib.Error as error:
            missing = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.NOT_FOUND)
            name = OSTree.object_to_string(checksum, kind)
            yield DamagedObject(name, missing, path, self._commit)
