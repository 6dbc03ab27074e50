"""What was changed in /etc, and what libostree's three-way merge will do with it.

At shutdown libostree compares the image's /usr/etc with /etc and repeats each difference in the /etc of the new
deployment; it does not merge files, the local one wins. Source of the rules: ``merge_configuration_from`` and
``ostree_diff_dirs`` of libostree, with their gaps. Paths differ by type, owner, mode or content; extended
attributes do not count. Pure functions over listings of directory trees.
"""

import posixpath
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a path is."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    SPECIAL = "special file"


@dataclass(frozen=True)
class Entry:
    """A path in a tree: what it is, and an identity that is equal exactly where libostree sees no difference.

    ``target`` is where a link leads.
    """

    kind: Kind
    identity: str = ""
    target: str = ""


Tree = Mapping[str, Entry]  # relative paths, a directory before what is in it


class Change(Enum):
    """What was done to a path in /etc; the value is what is shown in front of it."""

    ADDED = "+"
    MODIFIED = "~"
    REMOVED = "-"


class Outcome(Enum):
    """What the merge does with a change."""

    KEPT = "kept"
    KEPT_OVER_IMAGE = "kept; the new image's own change is not used"
    SAME = "kept; the new image has the same"
    STAYS_REMOVED = "stays removed"
    GONE = "removed in the new image, too"
    IGNORED = "lost: neither a file, a link nor a directory"
    LOST = "lost"
    CONFLICT = "conflict"


_MOST_LINKS: Final = 40  # as the kernel
_MISSING: Final = Entry(Kind.SPECIAL, "missing")


@dataclass(frozen=True)
class Difference:
    """A change, and what will become of it; ``outcome`` is None where no deployment is staged.

    ``problem`` says what is wrong with a conflict, for which the whole merge fails, or why a change is lost.
    """

    path: str
    change: Change
    outcome: Outcome | None = None
    problem: str = ""


def local_changes(image: Tree, present: Tree) -> list[Difference]:
    """What differs in /etc from the image's: removed, modified, added, each sorted by path.

    Of a directory that was removed, and of a path that is of another type now, only itself is named.
    """
    retyped = {
        path
        for path, entry in image.items()
        if path in present and present[path].kind != entry.kind
    }
    gone = {path for path in image if path not in present}
    came = {path for path in present if path not in image}
    modified = {
        path for path, entry in image.items() if path not in gone and present[path] != entry
    }
    return [
        *(Difference(path, Change.REMOVED) for path in _tops(gone, gone | retyped)),
        *(Difference(path, Change.MODIFIED) for path in sorted(modified)),
        *(Difference(path, Change.ADDED) for path in _tops(came, retyped)),
    ]


def _tops(paths: AbstractSet[str], roots: AbstractSet[str]) -> list[str]:
    """The paths that are below none of the others, sorted."""
    return sorted(path for path in paths if not any(up in roots for up in _parents(path)))


def merged(image: Tree, present: Tree, new: Tree) -> list[Difference]:
    """The local changes, and what the merge into the /etc of a new image does with each."""
    found: list[Difference] = []
    differences = local_changes(image, present)
    # Removals come first; then what was changed takes its place in the new tree before what is below it.
    replaced = {each.path for each in differences if each.change is not Change.REMOVED}
    # A directory's owner and mode come along only with something in it that was changed.
    carried = {posixpath.dirname(path) for path in replaced}
    for difference in differences:
        path = difference.path
        problem = ""
        removed = difference.change is Change.REMOVED
        obstacle = _obstacle(path, new, frozenset() if removed else replaced)
        if obstacle is not None:
            problem = f"/etc/{obstacle} is a {new[obstacle].kind.value} in the new image"
            outcome = Outcome.CONFLICT
        elif removed:
            outcome = Outcome.STAYS_REMOVED if path in new else Outcome.GONE
        elif present[path].kind is Kind.DIRECTORY:
            outcome, problem = _directory_kept(path, image, present, new, carried)
        else:
            outcome, problem = _kept(path, image, present, new)
        found.append(Difference(path, difference.change, outcome, problem))
    return found


def _kept(path: str, image: Tree, present: Tree, new: Tree) -> tuple[Outcome, str]:
    here, there = present[path], new.get(path, _MISSING)
    if there.kind is Kind.DIRECTORY:
        return Outcome.CONFLICT, f"it is a {here.kind.value} here and a directory in the new image"
    if here.kind is Kind.SPECIAL:
        return Outcome.IGNORED, ""
    if here == there:
        return Outcome.SAME, ""
    if path in new and there != image.get(path, _MISSING):
        return Outcome.KEPT_OVER_IMAGE, ""
    return Outcome.KEPT, ""


def _directory_kept(
    path: str, image: Tree, present: Tree, new: Tree, carried: AbstractSet[str]
) -> tuple[Outcome, str]:
    there = new.get(path, _MISSING)
    if there.kind is not Kind.DIRECTORY:
        over_image = path in new and there != image.get(path, _MISSING)
        return Outcome.KEPT_OVER_IMAGE if over_image else Outcome.KEPT, ""
    was_other = path in image and image[path].kind is not Kind.DIRECTORY
    inside = [each for each in present if each.startswith(f"{path}/")]
    if was_other and any(present[each] != new.get(each) for each in inside):
        return Outcome.LOST, "it is a directory in the new image, too, whose content is taken"
    if there == present[path]:
        return Outcome.SAME, ""
    if path in carried:
        return Outcome.KEPT, ""
    return Outcome.LOST, "owner and mode are the new image's, as nothing in it was changed"


def _obstacle(path: str, new: Tree, replaced: AbstractSet[str]) -> str | None:
    """A parent that is no directory in the new image."""
    for parent in _parents(path):
        entry = new.get(parent)
        if entry is None or parent in replaced:
            return None
        if entry.kind is Kind.LINK:
            return None if _leads_to_directory(parent, new) else parent
        if entry.kind is not Kind.DIRECTORY:
            return parent
    return None


def _leads_to_directory(link: str, tree: Tree) -> bool:
    """Whether a link leads to a directory. Of one that leaves the tree it is believed: libostree follows it."""
    path = link
    for _ in range(_MOST_LINKS):
        entry = tree.get(path)
        if entry is None or entry.kind is not Kind.LINK:
            return path == "." or (entry is not None and entry.kind is Kind.DIRECTORY)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.target))
        if path.startswith(("/", "..")):
            return True
    return False


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])
