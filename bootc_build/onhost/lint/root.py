"""A root directory that is read as the image would see itself: links never lead out of it."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bootc_build.onhost.image_tree import follow

_OCTAL = re.compile(rb"\\([0-7]{3})")
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the tree.

    Attributes:
        path: absolute path in the image; bytes that are not UTF-8 are surrogate escapes.
        kind: "d" directory, "f" regular file, "l" symbolic link, "s" anything else.
        mounted: something is mounted here, so it (and what is below) is not the image's.
    """

    path: str
    kind: str
    mounted: bool = False


class Root:
    """One root directory; every path taken and given is absolute in the image ("/usr/lib").

    Args:
        path: the directory on this machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._base = os.fspath(self.path).rstrip("/")

    def resolve_parent(self, path: str) -> str | None:
        """The path with every link but a last one followed, inside the root; None where they go in a circle.

        A path that does not exist keeps its rest as it is.
        """
        parent, name = posixpath.split(path.rstrip("/"))
        if not name:
            return "/"
        found = self.resolve(parent)
        return None if found is None else posixpath.join(found, name)

    def resolve(self, path: str) -> str | None:
        """The path with every link followed, inside the root; None where they go in a circle."""
        found = follow(self._read_link, path)
        return None if found is None else f"/{found}"

    def _read_link(self, path: str) -> str | None:
        try:
            return os.readlink(f"{self._base}/{path}")  # noqa: PTH115 - text, often
        except OSError:  # not a link, or not there
            return None

    def lstat(self, path: str) -> os.stat_result | None:
        """Status of the path itself, None when it is not there."""
        place = self.resolve_parent(path)
        try:
            return None if place is None else os.lstat(self._base + place)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, path: str) -> os.stat_result | None:
        """Status of what the path leads to inside the root, None when there is nothing."""
        found = self.resolve(path)
        return None if found is None else self.lstat(found)

    def is_dir(self, path: str) -> bool:
        """Whether the path is, or leads to, a directory."""
        found = self.stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_file(self, path: str) -> bool:
        """Whether the path is, or leads to, a regular file."""
        found = self.stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_real_dir(self, path: str) -> bool:
        """Whether the path itself is a directory, not a link to one."""
        found = self.lstat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def link(self, path: str) -> str | None:
        """Where the symbolic link leads, as it is written; None when it is no link."""
        place = self.resolve_parent(path)
        return None if place is None else self._read_link(place.lstrip("/"))

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory; none when it is not one."""
        found = self.resolve(path)
        try:
            return [] if found is None else sorted(os.listdir(self._base + found))  # noqa: PTH208 - names are wanted
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str) -> bytes | None:
        """Content of a regular file, None when there is none."""
        found = self.resolve(path)
        if found is None or not self.is_file(found):
            return None
        return Path(self._base + found).read_bytes()

    def text(self, path: str) -> str:
        """Content of a text file, undecodable bytes replaced; empty when there is none."""
        return (self.read(path) or b"").decode(errors="replace")

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every name in the tree, parents before children; mounts are named and not entered."""
        return tuple(self._walk())

    def below(self, *folders: str) -> Iterator[Entry]:
        """The entries below these directories (not the directories themselves)."""
        prefixes = tuple(folder.rstrip("/") + "/" for folder in folders)
        return (entry for entry in self.entries if entry.path.startswith(prefixes))

    def status_of(self, entry: Entry) -> os.stat_result | None:
        """Status of an entry of the walk, None when it is gone."""
        try:
            return os.lstat(self._base + entry.path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def target_of(self, entry: Entry) -> str:
        """Where an entry that is a symbolic link leads, as it is written."""
        try:
            return os.readlink(self._base + entry.path)  # noqa: PTH115 - thousands of them
        except OSError:  # gone
            return ""

    def _walk(self) -> Iterator[Entry]:
        mounts = self._mounts()
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                scanned = os.scandir(f"{self._base}{folder}/")
            except (FileNotFoundError, NotADirectoryError):  # changed under our feet
                continue
            with scanned:
                for found in scanned:
                    path = f"{folder}/{found.name}"
                    kind = _kind(found)
                    mounted = path in mounts
                    yield Entry(path, kind, mounted)
                    if kind == "d" and not mounted:
                        pending.append(path)

    def _mounts(self) -> frozenset[str]:
        base = self._base + "/"
        points: set[str] = set()
        try:
            table = _MOUNTINFO.read_bytes()
        except OSError:  # no /proc in this container
            return frozenset()
        for line in table.splitlines():
            raw = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
            point = os.fsdecode(raw)
            if point.startswith(base):
                points.add(point.removeprefix(self._base))
        return frozenset(points)


def _kind(found: "os.DirEntry[str]") -> str:
    if found.is_symlink():
        return "l"
    if found.is_dir(follow_symlinks=False):
        return "d"
    return "f" if found.is_file(follow_symlinks=False) else "s"
