"""What a booted kernel finds on the root file system: deployments that boot entries lead to, and whether they are whole.

A deployment is whole when its commit's tree is: every object of it is there and is what its name says, and every file of
the deployment is that object (the same inode), or at least has its content. What the log of writes has not touched since
a state that was good is not read again.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bootc_build.onhost.ostree import gvariant
from bootc_build.onhost.ostree.tree import Directory, decode
from bootc_build.testing.crash_points.boot_view import resolve
from bootc_build.testing.crash_points.etc_files import FileDigests, digest_of
from bootc_build.testing.crash_points.objects import (
    Content,
    find_damaged,
    list_objects,
    object_path,
    read_blocks,
    read_metadata,
)
from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.ext4_inspection import Inode, extract, list_directories

_COMMIT_TYPE = "(a{sv}aya(say)sstayay)"
_TREE, _META = 6, 7
_DEPLOYMENT = re.compile(r"^/ostree/deploy/([^/]+)/deploy/([0-9a-f]{64})\.(\d+)$")
_SHOWN = 3
# Longer targets of links have a block of their own in ext4.
_SHORT_LINK = 59


@dataclass(frozen=True)
class Deployment:
    """One that a boot entry leads to.

    Args:
        stateroot: it belongs to.
        commit: whose tree it has.
        problems: what is missing or damaged, in words.
        etc: digest of each file's content, mode and owner by its path in /etc.
    """

    stateroot: str
    commit: str
    problems: tuple[str, ...] = ()
    etc: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RootView:
    """What matters of a root file system.

    Args:
        links: to what deployment (or to None) each of the boot entries' links leads.
        names: all deployments that are there, whole or not.
        refs: of the repository, and what they say.
        kept: digests of files that have to stay.
    """

    links: Mapping[str, Deployment | None]
    names: frozenset[str]
    refs: Mapping[str, str]
    kept: Mapping[str, str]


class RootInspector:
    """Looks at states of one root file system.

    Args:
        slot: the file system, in the good state before the log.
        written: the sectors, from its start, that the log writes to anywhere.
        scratch: a folder of one's own.
        kept: paths of files that have to stay as they are.
        trusting: contents of objects where nothing is written are good; otherwise all are read.
    """

    def __init__(
        self,
        slot: Ext4Slot,
        written: AbstractSet[int],
        scratch: Path,
        kept: Iterable[str] = (),
        *,
        trusting: bool = True,
    ) -> None:
        self._slot = slot
        self._scratch = scratch
        self._kept = tuple(kept)
        self._files = FileDigests(slot, written, scratch)
        self._metadata: dict[str, bytes] = {}
        self._links_checked: set[Content] = set()
        self._trusted = _untouched_objects(slot, written) if trusting else {}

    def look(self, links: Iterable[str]) -> RootView:
        """The present state of the file system, its journal replayed.

        Args:
            links: of the boot entries (`ostree=`).
        """
        with emptied(self._scratch) as copies:
            extract(self._slot, self._small_parts(copies))
            found = {link: resolve(copies, link) for link in sorted(set(links))}
            refs = {
                str(path.relative_to(copies / "refs")): path.read_text(errors="replace").strip()
                for path in sorted(_files_below(copies / "refs"))
            }
            kept = {
                str(number): digest_of(copies / f"kept{number}" / Path(path).name)
                for number, path in enumerate(self._kept)
            }
            places = {
                link: "/" + str(path.relative_to(copies)) if path else _dangling(copies, link)
                for link, path in found.items()
            }
        objects = list_objects(self._slot)
        self._read_new_metadata(objects)
        deployments = {
            place: self._check(place, objects) for place in sorted({*places.values()} - {""})
        }
        return RootView(
            links={link: deployments.get(place) for link, place in places.items()},
            names=frozenset(self._names()),
            refs=refs,
            kept={path: kept[str(number)] for number, path in enumerate(self._kept)},
        )

    def _small_parts(self, copies: Path) -> list[tuple[str, Path]]:
        listed = list_directories(self._slot, ["/ostree"])["/ostree"]
        links = [f"/ostree/{name}" for name in listed if name.startswith("boot.")]
        for folder in ("ostree", "refs", *(f"kept{number}" for number in range(len(self._kept)))):
            (copies / folder).mkdir()
        return [
            *((path, copies / "ostree") for path in links),
            ("/ostree/repo/refs", copies / "refs"),
            *((path, copies / f"kept{number}") for number, path in enumerate(self._kept)),
        ]

    def _names(self) -> Iterator[str]:
        roots = list_directories(self._slot, ["/ostree/deploy"])["/ostree/deploy"]
        folders = [f"/ostree/deploy/{name}/deploy" for name in roots]
        for folder, names in list_directories(self._slot, folders).items():
            yield from (f"{folder}/{name}" for name in names)

    def _check(self, place: str, objects: Mapping[str, Inode]) -> Deployment | None:
        named = _DEPLOYMENT.match(place)
        if named is None:
            return None
        stateroot, commit, _ = named.groups()
        problems, tree = self._read_tree(commit, objects)
        problems += self._check_files(place, tree, objects)
        return Deployment(stateroot, commit, tuple(problems), self._files.of_tree(f"{place}/etc"))

    def _read_tree(
        self, commit: str, objects: Mapping[str, Inode]
    ) -> tuple[list[str], dict[str, Directory]]:
        """A commit's directories by path, and what is wrong with the objects they are in."""
        problems, contents = self._load([f"{commit}.commit"], objects)
        if problems:
            return problems, {}
        decoded = cast(
            "tuple[Any, ...]", gvariant.decode(_COMMIT_TYPE, contents[f"{commit}.commit"])
        )
        level = {"": (bytes(decoded[_TREE]).hex(), bytes(decoded[_META]).hex())}
        tree: dict[str, Directory] = {}
        while level:
            names = {f"{checksum}.dirtree" for checksum, _ in level.values()}
            names |= {f"{checksum}.dirmeta" for _, checksum in level.values()}
            wrong, contents = self._load(sorted(names), objects)
            problems += wrong
            below: dict[str, tuple[str, str]] = {}
            for path, (checksum, _) in level.items():
                if (data := contents.get(f"{checksum}.dirtree")) is not None:
                    tree[path] = decode(data)
                    below |= {f"{path}/{name}": pair for name, pair in tree[path].dirs.items()}
            level = below
        return problems, tree

    def _load(
        self, names: Iterable[str], objects: Mapping[str, Inode]
    ) -> tuple[list[str], dict[str, bytes]]:
        wanted = set(names)
        missing = sorted(wanted - set(objects))
        here = wanted - set(missing)
        good = {name: self._metadata[name] for name in here if name in self._metadata}
        problems = [f"the object {name} is missing" for name in missing]
        problems += [f"the object {name} is damaged" for name in sorted(here - set(good))]
        return problems, good

    def _read_new_metadata(self, objects: Mapping[str, Inode]) -> None:
        """Know what directories, their metadata and commits there are in this state: the good ones only."""
        doubtful = [name for name in objects if not self._is_trusted(name, objects)]
        for name in doubtful:
            self._metadata.pop(name, None)
        unknown = [name for name in objects if name not in self._metadata]
        self._metadata |= read_metadata(self._slot, unknown, self._scratch)

    def _is_trusted(self, name: str, objects: Mapping[str, Inode]) -> bool:
        return name in self._trusted and self._trusted[name] == objects[name]

    def _check_files(
        self, place: str, tree: Mapping[str, Directory], objects: Mapping[str, Inode]
    ) -> list[str]:
        listed = list_directories(self._slot, [place + path for path in tree])
        problems: list[str] = []
        suspects: dict[str, Content] = {}
        for path, directory in tree.items():
            present = listed[place + path]
            problems += [
                f"the directory {path}/{name} is missing"
                for name in directory.dirs
                if name not in present or not stat.S_ISDIR(present[name].mode)
            ]
            for name, checksum in directory.files.items():
                key = f"{checksum}.file"
                inode = present.get(name)
                kept = objects.get(key)
                if kept is None:
                    problems.append(f"the object {key} is missing")
                elif not self._is_trusted(key, objects):
                    suspects[key] = Content(object_path(key), kept, checksum)
                if inode is None:
                    problems.append(f"the file {path}/{name} is missing")
                elif kept is None or inode.number != kept.number:
                    where = f"{place}{path}/{name}"
                    suspects[where] = Content(where, inode, checksum)
        return problems + self._find_damaged(set(suspects.values()))

    def _find_damaged(self, suspects: set[Content]) -> list[str]:
        # A short link, or an empty file, is all in its inode, whose checksum e2fsck has looked at: what was right
        # once is right for as long as nothing about it changes.
        damaged = find_damaged(self._slot, suspects - self._links_checked, self._scratch)
        self._links_checked |= {
            one
            for one in suspects - set(damaged)
            if one.inode.size == 0
            or (stat.S_ISLNK(one.inode.mode) and one.inode.size <= _SHORT_LINK)
        }
        return sorted(f"{one.path} is damaged" for one in damaged)


def _untouched_objects(slot: Ext4Slot, written: AbstractSet[int]) -> dict[str, Inode]:
    """The objects none of whose blocks is written to."""
    known = list_objects(slot)
    owners = read_blocks(slot, {inode.number for inode in known.values()})
    touched = {owners[block] for sector in written if (block := sector - sector % 8) in owners}
    return {name: inode for name, inode in known.items() if inode.number not in touched}


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files. Not by rglob, which is recursive: in a damaged file system a folder may hold itself."""
    todo = [os.fspath(folder)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_file():
                    yield Path(entry.path)


def _dangling(copies: Path, link: str) -> str:
    """Where a link points to although only links were copied: the deployment itself was not."""
    path = copies / link.strip("/")
    parent = resolve(copies, str(path.parent.relative_to(copies)))
    if parent is None or not (parent / path.name).is_symlink():
        return ""
    parts: list[str] = list(parent.relative_to(copies).parts)
    for part in str((parent / path.name).readlink()).split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/" + "/".join(parts)


def summary(problems: Iterable[str]) -> str:
    """The first few of many problems, in one line."""
    every = list(problems)
    rest = f"; and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "; ".join(every[:_SHOWN]) + rest
