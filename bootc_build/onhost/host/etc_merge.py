"""What was changed in /etc, and what libostree's three-way merge will do with it.

At shutdown libostree compares the image's /usr/etc with /etc and repeats each difference in the /etc of the new
deployment; it does not merge files, the local one wins. Source of the rules: ``merge_configuration_from`` and
``ostree_diff_dirs`` of libostree, with their gaps. Paths differ by type, owner, mode or content; extended
attributes do not count. Pure functions over listings of directory trees.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
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

    ``target`` is where a link leads; ``attributes`` tells extended attributes apart, which libostree does not compare.
    """

    kind: Kind
    identity: str = ""
    target: str = ""
    attributes: str = field(default="", compare=False)


Tree = Mapping[str, Entry]  # relative paths, a directory before what is in it


class Change(Enum):
    """What was done to a path in /etc; the value is what is shown in front of it."""

    ADDED = "+"
    MODIFIED = "~"
    REMOVED = "-"
    UNCHANGED = "="  # a directory that is as in the image, but changed by what was changed in it


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

    ``problem`` says what is wrong with a conflict, for which the whole merge fails, why a change is lost, or where
    else it is made.
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
        path
        for path, entry in image.items()
        if path not in gone
        and (present[path] != entry or present[path].attributes != entry.attributes)
    }
    return [
        *(Difference(path, Change.REMOVED) for path in _tops(gone, gone | retyped)),
        *(Difference(path, Change.MODIFIED) for path in sorted(modified)),
        *(Difference(path, Change.ADDED) for path in _tops(came, retyped)),
    ]


def _tops(paths: AbstractSet[str], roots: AbstractSet[str]) -> list[str]:
    """The paths that are below none of the others, sorted."""
    return sorted(_below_none(paths, roots))


def merged(image: Tree, present: Tree, new: Tree) -> list[Difference]:
    """The local changes, and what the merge into the /etc of a new image does with each."""
    differences = local_changes(image, present)
    # Removals come first; then what was changed takes its place in the new tree before what is below it.
    removals = [each for each in differences if each.change is Change.REMOVED]
    changes = [each for each in differences if each.change is not Change.REMOVED]
    # libostree takes these for unchanged.
    unseen = {each.path for each in changes if image.get(each.path) == present[each.path]}
    changes = [each for each in changes if each.path not in unseen]
    found: list[Difference] = []
    gone: set[str] = set()
    for each in removals:
        place = _place(each.path, new, frozenset())
        gone.add(place.path)
        outcome = Outcome.STAYS_REMOVED if place.path in new else Outcome.GONE
        found.append(_placed(each, place, new, outcome, ""))
    rest = {path: entry for path, entry in new.items() if path not in gone}
    rest = {path: rest[path] for path in _below_none(rest, gone)}
    replaced = {each.path for each in changes}
    # A directory's owner and mode come along only with something in it that was changed.
    carried = {posixpath.dirname(path) for path in replaced}
    for each in changes:
        place = _place(each.path, rest, replaced)
        there = rest.get(place.path, _MISSING)
        if present[each.path].kind is Kind.DIRECTORY:
            outcome, problem = _directory_kept(
                each.path, image, present, rest, there=there, carried=each.path in carried
            )
        else:
            outcome, problem = _kept(present[each.path], image.get(each.path, _MISSING), there)
        found.append(_placed(each, place, rest, outcome, problem))
    found.extend(_unseen(path, carried) for path in sorted(unseen))
    return [*found, *_carried_along(carried - replaced, present, rest)]


def _unseen(path: str, carried: AbstractSet[str]) -> Difference:
    """What becomes of extended attributes where nothing else was changed."""
    if path in carried:
        return Difference(path, Change.MODIFIED, Outcome.KEPT)
    problem = "extended attributes (access control lists, capabilities) are kept only where something else was changed"
    return Difference(path, Change.MODIFIED, Outcome.LOST, problem)


def _carried_along(parents: AbstractSet[str], present: Tree, new: Tree) -> Iterator[Difference]:
    """Directories that nobody touched here, and whose owner and mode the image changes in vain."""
    for path in sorted(parents - {""}):
        there = new.get(_place(path, new, frozenset()).path)
        if there is not None and there.kind is Kind.DIRECTORY and there != present.get(path):
            yield Difference(
                path,
                Change.UNCHANGED,
                Outcome.KEPT_OVER_IMAGE,
                "its owner and mode stay, as something in it was changed here",
            )


def _kept(here: Entry, before: Entry, there: Entry) -> tuple[Outcome, str]:
    if there.kind is Kind.DIRECTORY:
        return Outcome.CONFLICT, f"it is a {here.kind.value} here and a directory in the new image"
    if here.kind is Kind.SPECIAL:
        return Outcome.IGNORED, ""
    if here == there:
        return Outcome.SAME, ""
    if there not in (_MISSING, before):
        return Outcome.KEPT_OVER_IMAGE, ""
    return Outcome.KEPT, ""


def _directory_kept(
    path: str, image: Tree, present: Tree, new: Tree, *, there: Entry, carried: bool
) -> tuple[Outcome, str]:
    if there.kind is not Kind.DIRECTORY:
        over_image = there not in (_MISSING, image.get(path, _MISSING))
        return Outcome.KEPT_OVER_IMAGE if over_image else Outcome.KEPT, ""
    was_other = path in image and image[path].kind is not Kind.DIRECTORY
    inside = [each for each in present if each.startswith(f"{path}/")]
    if was_other and any(present[each] != new.get(each) for each in inside):
        return Outcome.LOST, "it is a directory in the new image, too, whose content is taken"
    if there == present[path]:
        return Outcome.SAME, ""
    if carried:
        return Outcome.KEPT, ""
    return Outcome.LOST, "owner and mode are the new image's, as nothing in it was changed"


@dataclass(frozen=True)
class _Place:
    """Where a path leads in the new tree.

    Attributes:
        path: with the links of its parents followed.
        obstacle: a parent that is no directory.
        way_out: a parent that is a link out of /etc; ``path`` is meaningless then.
    """

    path: str
    obstacle: str = ""
    way_out: str = ""


def _place(path: str, new: Tree, replaced: AbstractSet[str]) -> _Place:
    folder = ""
    for parent in _parents(path):
        here = posixpath.join(folder, posixpath.basename(parent))
        below = f"{here}{path[len(parent) :]}"
        entry = new.get(here)
        if entry is None or (parent in replaced and entry.kind is not Kind.DIRECTORY):
            return _Place(below)  # the parent is made as it is here
        resolved = _resolved(here, new)
        if resolved is None:
            return _Place(path, way_out=here)
        if resolved and new.get(resolved, _MISSING).kind is not Kind.DIRECTORY:
            return _Place(below, obstacle=here)
        folder = resolved
    return _Place(posixpath.join(folder, posixpath.basename(path)))


def _resolved(path: str, tree: Tree) -> str | None:
    """A path with all links followed, empty for the root; None for one that leaves the tree.

    What it gives for a circle, or for a link to nowhere, is no directory of the tree.
    """
    pending = path.split("/")[::-1]
    found: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not found:
                return None
            found.pop()
            continue
        found.append(part)
        entry = tree.get("/".join(found))
        if entry is None or entry.kind is not Kind.LINK:
            continue
        followed += 1
        if followed > _MOST_LINKS:
            return path
        if entry.target.startswith("/"):
            return None
        found.pop()
        pending += entry.target.split("/")[::-1]
    return "/".join(found)


def _placed(
    difference: Difference, place: _Place, new: Tree, outcome: Outcome, problem: str
) -> Difference:
    """A difference with its outcome, unless its place forbids that."""
    if place.obstacle:
        removed_nowhere = (
            difference.change is Change.REMOVED
            and new[place.obstacle].kind is Kind.LINK
            and _resolved(place.obstacle, new) not in new
        )
        if removed_nowhere:
            return replace(difference, outcome=Outcome.GONE)
        problem = f"/etc/{place.obstacle} is a {new[place.obstacle].kind.value} in the new image"
        return replace(difference, outcome=Outcome.CONFLICT, problem=problem)
    if place.way_out:
        outcome, problem = _outside(new[place.way_out].target, outcome)
        problem = f"/etc/{place.way_out} is a link to {new[place.way_out].target} in the new image, {problem}"
    return replace(difference, outcome=outcome, problem=problem)


def _outside(target: str, outcome: Outcome) -> tuple[Outcome, str]:
    """What becomes of a change below a link out of /etc, which libostree follows as the running system does."""
    top = posixpath.normpath(target).split("/")[1:2] if target.startswith("/") else []
    if top == ["etc"]:
        return Outcome.LOST, "and the change would be made in the present system's /etc"
    if top == ["usr"]:
        return Outcome.CONFLICT, "which cannot be written to"
    return outcome, "and the change is made there"


def _below_none(paths: Iterable[str], roots: AbstractSet[str]) -> list[str]:
    return [path for path in paths if not any(up in roots for up in _parents(path))]


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])
