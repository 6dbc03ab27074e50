"""Files of an image by their paths in it, whether it is a root directory or a commit that becomes one.

Links are followed inside the tree, as the booted system will see them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from bootc_build.onhost.errors import UserError

_MOST_LINKS: Final = 40  # as the kernel


class Tree(Protocol):
    """A root directory, or a commit that becomes one; paths are relative to it, and links not followed."""

    def names(self, directory: str) -> Sequence[str]:
        """What is in a directory; nothing where there is none."""

    def is_directory(self, path: str) -> bool:
        """Whether a path is a directory; a link to one is none."""

    def link(self, path: str) -> str | None:
        """Where a symbolic link leads; None for what is none."""

    def text(self, path: str) -> str | None:
        """Text of a regular file; None where there is none.

        Raises:
            UserError: it is not UTF-8.
        """


class RootTree:
    """A root directory of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self, directory: str) -> Sequence[str]:
        """See `Tree`."""
        folder = self._path / directory
        return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []

    def is_directory(self, path: str) -> bool:
        """See `Tree`."""
        place = self._path / path
        return place.is_dir() and not place.is_symlink()

    def link(self, path: str) -> str | None:
        """See `Tree`."""
        place = self._path / path
        return str(place.readlink()) if place.is_symlink() else None

    def text(self, path: str) -> str | None:
        """See `Tree`."""
        place = self._path / path
        try:
            return place.read_text() if place.is_file() and not place.is_symlink() else None
        except UnicodeDecodeError as error:
            raise UserError(
                f"{place} cannot be read as text: {error}.", "Write it in UTF-8."
            ) from error


def follow(read_link: Callable[[str], str | None], path: str) -> str | None:
    """Follow all links of a path inside a tree; absolute ones begin at its root, and nothing leads out of it.

    Args:
        read_link: where the link leads that is at a path, which is relative to the root and has no links before its
            last part; None where there is none.
        path: where to.

    Returns:
        The path, relative to the root; None where there are more links than the kernel would follow, as in a circle.
    """
    pending = [*reversed(path.split("/"))]
    found: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del found[-1:]
            continue
        target = read_link("/".join((*found, part)))
        if target is None:
            found.append(part)
            continue
        followed += 1
        if followed > _MOST_LINKS:
            return None
        if target.startswith("/"):
            found.clear()
        pending += reversed(target.split("/"))
    return "/".join(found)


def resolve(tree: Tree, path: str) -> str:
    """Follow all links of a path inside a tree.

    Raises:
        UserError: links go in a circle.
    """
    found = follow(tree.link, path)
    if found is None:
        raise UserError(f"/{path} leads through a circle of symbolic links.")
    return found


def drop_in_names(tree: Tree, directory: str) -> list[str]:
    """The names in a directory that need not be there, sorted.

    Raises:
        UserError: something else has its name: a file, or a link that leads nowhere.
    """
    place = resolve(tree, directory)
    if tree.is_directory(place):
        return sorted(tree.names(place))
    if tree.link(directory) is not None or tree.text(place) is not None:
        raise UserError(
            f"/{directory} is not a directory.",
            f"Make it one, or remove it, in the Containerfile: RUN rm -f /{directory}",
        )
    return []
