"""Take damaged objects out of a repository, and put whole ones into deployments again."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import gi

from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first

_NEW = ".bootc-new"


class Reach:
    """Tells which commits reach one of some objects; nothing is hashed for it.

    Args:
        repo: where the commits are.
        names: of the objects, as their files in the repository are called.
    """

    def __init__(self, repo: Repo, names: Collection[str]) -> None:
        self._store = ObjectStore(repo)
        self._names = names
        self._trees: dict[str, bool] = {}

    def touches(self, commit: str) -> bool:
        """Whether a commit reaches one; a commit that cannot be read counts as one that does."""
        if f"{commit}.commit" in self._names:
            return True
        try:
            tree, meta = self._store.root_of(commit)
            return f"{meta}.dirmeta" in self._names or self._below(tree)
        except GLib.Error:
            return True

    def _below(self, tree: str) -> bool:
        if tree not in self._trees:
            self._trees[tree] = f"{tree}.dirtree" in self._names or self._inside(tree)
        return self._trees[tree]

    def _inside(self, tree: str) -> bool:
        directory = self._store.load_directory(tree)
        return any(f"{content}.file" in self._names for content in directory.files.values()) or any(
            f"{meta}.dirmeta" in self._names or self._below(below)
            for below, meta in directory.dirs.values()
        )


def drop_objects(repo: Repo, names: Iterable[str]) -> None:
    """Remove objects by the names of their files; the same content can be written again then."""
    for name in names:
        _path(repo, name).unlink(missing_ok=True)


def relink(repo: Repo, commit: str, root: Path, names: Collection[str]) -> Iterator[Path]:
    """Make files of a deployment hard links to their objects again; each is replaced by a rename.

    Args:
        repo: where the objects are.
        commit: what was deployed.
        root: the deployment's directory.
        names: of the file objects whose files are looked at.

    Yields:
        Files that could not be replaced.
    """
    for path, content in _files(ObjectStore(repo), commit):
        if f"{content}.file" not in names or path.startswith("var/"):
            continue
        source, target = _path(repo, f"{content}.file"), root / path
        try:
            _link(source, target)
        except OSError:
            yield target


def _link(source: Path, target: Path) -> None:
    if not os.path.lexists(source) or not target.parent.is_dir():
        return
    if os.path.lexists(target) and os.path.samestat(source.lstat(), target.lstat()):
        return
    new = target.with_name(f"{target.name[:200]}{_NEW}")
    new.unlink(missing_ok=True)
    os.link(source, new, follow_symlinks=False)
    new.replace(target)


def _files(store: ObjectStore, commit: str) -> Iterator[tuple[str, str]]:
    """Paths and file objects of a commit, as far as it can be read."""
    try:
        pending = [("", store.root_of(commit)[0])]
    except GLib.Error:
        return
    while pending:
        path, tree = pending.pop()
        try:
            directory = store.load_directory(tree)
        except GLib.Error:
            continue
        for name, content in directory.files.items():
            yield f"{path}{name}", content
        pending += [(f"{path}{name}/", below) for name, (below, _meta) in directory.dirs.items()]


def _path(repo: Repo, name: str) -> Path:
    return repo.path / "objects" / name[:2] / name[2:]
