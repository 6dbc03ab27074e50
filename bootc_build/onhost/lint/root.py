"""A root directory that is read as the image would see itself: links never lead out of it."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_MAX_LINKS = 40  # as many as the kernel follows
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

    def outside(self, path: str) -> str:
        """Where on this machine a path of the image is, with its last component not followed.

        Links on the way are followed inside the root. A path that does not exist keeps its rest as it is.
        """
        return self._base + self.resolve_parent(path)

    def resolve_parent(self, path: str) -> str:
        """The path with every link but a last one followed, inside the root."""
        parent, name = posixpath.split(path.rstrip("/"))
        return posixpath.join(self.resolve(parent or "/"), name) if name else "/"

    def resolve(self, path: str) -> str:
        """The path with every link followed, inside the root; the kernel's limit of links holds."""
        todo = [part for part in reversed(path.split("/")) if part]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                del done[-1:]
                continue
            try:
                target = os.readlink("/".join((self._base, *done, part)))  # noqa: PTH115 - text, often
            except OSError:  # not a link, or not there
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                done.append(part)
                continue
            if target.startswith("/"):
                done.clear()
            todo += [piece for piece in reversed(target.split("/")) if piece]
        return "/" + "/".join(done)

    def lstat(self, path: str) -> os.stat_result | None:
        """Status of the path itself, None when it is not there."""
        try:
            return os.lstat(self.outside(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, path: str) -> os.stat_result | None:
        """Status of what the path leads to inside the root, None when there is nothing."""
        return self.lstat(self.resolve(path))

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
        try:
            return os.readlink(self.outside(path))  # noqa: PTH115 - as it is written, byte for byte
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory; none when it is not one."""
        try:
            return sorted(os.listdir(self._base + self.resolve(path)))  # noqa: PTH208 - names are wanted
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str) -> bytes | None:
        """Content of a regular file, None when there is none."""
        if not self.is_file(path):
            return None
        return Path(self._base + self.resolve(path)).read_bytes()

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
