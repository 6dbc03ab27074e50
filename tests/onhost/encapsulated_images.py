"""Ostree commits split into layers, as ostree-rs-ext writes them: what Fedora's images are made of.

chunks = encapsulate(repo, commit, 3)       # entries of layer 0 and of two more
write_image(layout, [*chunks, derived], labels=labels_of(commit, chunks[-1]))
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gi

from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo
from tests.onhost.oci_images import LABELS, Dir, Entry, File, Link, Symlink, digest_of, tar_of

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first

REPO = "sysroot/ostree/repo"
STRUCTURE = ("extensions", "refs", "refs/heads", "refs/remotes", "state", "tmp", "tmp/cache")


def object_path(checksum: str, kind: str) -> str:
    return f"{REPO}/objects/{checksum[:2]}/{checksum[2:]}.{kind}"


@dataclass
class _Walk:
    """What a commit reaches: metadata objects in their order, and files with their paths."""

    metadata: dict[tuple[str, str], None] = field(default_factory=dict)
    directories: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)


def _walk(store: ObjectStore, tree: str, meta: str, path: str, walk: _Walk) -> _Walk:
    walk.metadata[meta, "dirmeta"] = walk.metadata[tree, "dirtree"] = None
    walk.directories.append((path, meta))
    directory = store.load_directory(tree)
    prefix = path + "/" if path else ""
    for name, checksum in directory.files.items():
        walk.files.setdefault(checksum, []).append(prefix + name)
    for name, (subtree, submeta) in directory.dirs.items():
        _walk(store, subtree, submeta, prefix + name, walk)
    return walk


def _structure() -> Iterator[Entry]:
    for path in ("sysroot", "sysroot/ostree", REPO, f"{REPO}/objects"):
        yield Dir(path)
    for number in range(256):
        yield Dir(f"{REPO}/objects/{number:02x}")
    for name in STRUCTURE:
        yield Dir(f"{REPO}/{name}")
    yield File(f"{REPO}/config", data=b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n")


def _in_container(path: str) -> str:
    return path.removeprefix("usr/") if path.startswith("usr/etc") else path


def serialised_xattrs(path: Path) -> bytes:
    names = os.listxattr(path, follow_symlinks=False)
    listed = [
        (name.encode() + b"\0", os.getxattr(path, name, follow_symlinks=False))
        for name in sorted(names)
    ]
    return GLib.Variant("a(ayay)", listed).get_data_as_bytes().get_data() or b""


def _content(repo: Repo, checksum: str, paths: Sequence[str], seen: set[str]) -> Iterator[Entry]:
    source = repo.path / "objects" / checksum[:2] / f"{checksum[2:]}.file"
    xattrs = serialised_xattrs(source)
    xattrs_checksum = hashlib.sha256(xattrs).hexdigest()
    if xattrs_checksum not in seen:
        seen.add(xattrs_checksum)
        yield File(object_path(xattrs_checksum, "file-xattrs"), data=xattrs)
    yield Link(
        object_path(checksum, "file-xattrs-link"),
        target=object_path(xattrs_checksum, "file-xattrs"),
    )
    found = source.lstat()
    owner: dict[str, Any] = {
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mode": stat.S_IMODE(found.st_mode),
    }
    place = object_path(checksum, "file")
    if stat.S_ISLNK(found.st_mode):
        yield Symlink(place, target=os.readlink(source), **owner)  # noqa: PTH115 - as it is, with double slashes
    else:
        yield File(place, data=source.read_bytes(), **owner)
    for path in paths:
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            yield File(_in_container(path), **owner)
        else:
            yield Link(_in_container(path), target=place, **owner)


def encapsulate(repo: Repo, commit: str, count: int) -> list[list[Entry]]:
    """The layers of a commit (version 1 of the format): layer 0 with the metadata, files shared out to all."""
    store = ObjectStore(repo)
    walk = _walk(store, *store.root_of(commit), "", _Walk())
    objects = repo.path / "objects"
    first: list[Entry] = [Dir("./"), *_structure()]
    commit_file = objects / commit[:2] / f"{commit[2:]}.commit"
    first.append(File(object_path(commit, "commit"), data=commit_file.read_bytes()))
    for checksum, kind in walk.metadata:
        data = (objects / checksum[:2] / f"{checksum[2:]}.{kind}").read_bytes()
        first.append(File(object_path(checksum, kind), data=data))
    for path, meta in walk.directories[1:]:
        uid, gid, mode, _xattrs = store.load_dirmeta(meta)
        if path != "sysroot":
            first.append(Dir("./" + _in_container(path), uid=uid, gid=gid, mode=mode))
    first.append(Dir("var/tmp", mode=0o1777))
    layers = [first, *([*_structure()] for _ in range(count - 1))]
    seen: list[set[str]] = [set() for _ in layers]
    for number, (checksum, paths) in enumerate(sorted(walk.files.items())):
        # The remainder goes into layer 0.
        at = (number + 1) % count
        layers[at] += _content(repo, checksum, paths, seen[at])
    return layers


def encapsulate_v0(repo: Repo, commit: str) -> list[Entry]:
    """The only layer of a commit in version 0 of the format."""
    entries: list[Entry] = []
    for entry in encapsulate(repo, commit, 1)[0]:
        path = entry.path
        if path.endswith(".file-xattrs"):
            checksum = "".join(path.split("/")[-2:]).removesuffix(".file-xattrs")
            assert isinstance(entry, File)
            entries.append(File(f"{REPO}/xattrs/{checksum}", data=entry.data))
        elif path.endswith(".file-xattrs-link"):
            assert isinstance(entry, Link)
            checksum = "".join(entry.target.split("/")[-2:]).removesuffix(".file-xattrs")
            place = path.removesuffix("-xattrs-link") + ".xattrs"
            entries.append(Link(place, target=f"../../xattrs/{checksum}"))
        else:
            entries.append(entry)
    return entries


def labels_of(commit: str, last: Sequence[Entry]) -> dict[str, str]:
    """Labels of an image whose layers up to ``last`` are the commit."""
    return {
        **LABELS,
        "ostree.commit": commit,
        "ostree.final-diffid": digest_of(tar_of(last)),
    }
