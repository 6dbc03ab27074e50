"""Trees of files that are read in place: a file system in a disk, the layers of an image in storage."""

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.image_tree import follow
from bootc_build.tools.mtools import FatVolume

_MAX_LINKS = 40  # as many as the kernel follows
_WHITEOUT_PREFIX = ".wh."
_OPAQUE_MARK = ".wh..wh..opq"
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


class FileTree(Protocol):
    """A tree of files. Paths are absolute in it."""

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in a folder, sorted; empty when there is no such folder."""

    def read(self, path: str) -> bytes | None:
        """A file's content; None when there is no such file."""

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link leads; None when it is none, or the tree does not tell."""


def read_text(tree: FileTree, path: str) -> str | None:
    """A file's text, its last component followed if it is a link; None when there is no such file."""
    for _ in range(_MAX_LINKS):
        target = tree.readlink(path)
        if target is None:
            found = tree.read(path)
            return None if found is None else found.decode(errors="replace")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return None


@dataclass(frozen=True)
class Subtree:
    """A folder of a tree, as a tree."""

    tree: FileTree
    folder: str

    def names(self, folder: str) -> tuple[str, ...]:
        """As `FileTree.names`."""
        return self.tree.names(self.folder + folder)

    def read(self, path: str) -> bytes | None:
        """As `FileTree.read`."""
        return self.tree.read(self.folder + path)

    def readlink(self, path: str) -> str | None:
        """As `FileTree.readlink`; where an absolute link leads is told as the subtree sees it."""
        return self.tree.readlink(self.folder + path)


class FatTree:
    """The files of a FAT file system; names in the case that they are stored in.

    Args:
        volume: where it is.
    """

    def __init__(self, volume: FatVolume) -> None:
        self._volume = volume
        self.files = tuple(f"/{name}" for name in volume.names())

    def names(self, folder: str) -> tuple[str, ...]:
        """As `FileTree.names`."""
        start = folder.rstrip("/") + "/"
        inside = {path[len(start) :].split("/")[0] for path in self.files if path.startswith(start)}
        return tuple(sorted(inside))

    def read(self, path: str) -> bytes | None:
        """As `FileTree.read`."""
        return self._volume.read(path) if path in self.files else None

    def readlink(self, _path: str) -> str | None:
        """None: FAT has no links."""
        return None


class LayeredTree:
    """The layers of an image as overlayfs keeps them: a folder with each layer's changes.

    Whiteouts are character devices 0:0, or files ".wh.NAME" where those may not be made; a folder that hides
    what lies below it says so by an extended attribute, or by a file ".wh..wh..opq".

    Args:
        folders: the layers' folders, lowest first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(reversed(folders))

    def names(self, folder: str) -> tuple[str, ...]:
        """As `FileTree.names`."""
        shown: set[str] = set()
        hidden: set[str] = set()
        found = self._resolve(folder)
        for place in () if found is None else self._places(found):
            if not place.is_dir() or place.is_symlink():
                break
            with _explained(place), os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith(_WHITEOUT_PREFIX):
                        hidden.add(entry.name.removeprefix(_WHITEOUT_PREFIX))
                    elif _is_whiteout(Path(entry.path)):
                        hidden.add(entry.name)
                    elif entry.name not in hidden:
                        shown.add(entry.name)
            hidden |= shown
        return tuple(sorted(shown))

    def read(self, path: str) -> bytes | None:
        """As `FileTree.read`; all links are followed.

        Raises:
            UserError: reading it takes other rights.
        """
        found = self._resolve(path)
        place = None if found is None else next(self._places(found), None)
        if place is None or place.is_symlink() or not place.is_file():
            return None
        with _explained(place):
            return place.read_bytes()

    def readlink(self, path: str) -> str | None:
        """As `FileTree.readlink`; links on the way are followed."""
        parent, name = posixpath.split(path)
        found = self._resolve(parent)
        return None if found is None else self._link(posixpath.join(found, name))

    def _resolve(self, path: str) -> str | None:
        """The path with every link followed, inside the image; None where they go in a circle."""
        return follow(self._link, path)

    def _link(self, path: str) -> str | None:
        place = next(self._places(path), None)
        return str(place.readlink()) if place is not None and place.is_symlink() else None

    def _places(self, path: str) -> Iterator[Path]:
        """Where layers have a path without links in it, the highest first, as far down as it shows through."""
        parts = [part for part in path.split("/") if part]
        for folder in self._folders:
            place, ends = folder, False
            for index, part in enumerate(parts):
                if _hides(place, part):
                    return
                place = place / part
                if index == len(parts) - 1 or not os.path.lexists(place):
                    continue
                if not place.is_dir() or place.is_symlink():
                    return
                ends = ends or _is_opaque(place)
            with _explained(place):
                there = os.path.lexists(place)
            if there:
                yield place
                ends = ends or not place.is_dir() or place.is_symlink() or _is_opaque(place)
            if ends:
                return


def _hides(folder: Path, name: str) -> bool:
    """Whether a layer takes a name of the layers below away."""
    return _is_whiteout(folder / name) or (folder / f"{_WHITEOUT_PREFIX}{name}").exists()


def _is_whiteout(place: Path) -> bool:
    try:
        status = place.lstat()
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(folder: Path) -> bool:
    if (folder / _OPAQUE_MARK).exists():
        return True
    for name in _OPAQUE:
        try:
            if os.getxattr(folder, name) == b"y":
                return True
        except OSError:
            continue
    return False


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Turn a refusal to read into an error with its remedy."""
    try:
        yield
    except PermissionError as error:
        raise UserError(
            f"{place} may not be read by this user.",
            "Run it as the user whose storage it is, inside: buildah unshare",
        ) from error
