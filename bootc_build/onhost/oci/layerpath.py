"""Where an entry of a layer goes in the tree: pure rules, no I/O.

etc/…               -> usr/etc/… (ostree keeps the image's /etc there and merges it into the host's)
run tmp proc sys dev   the directory stays, its children are dropped: they belong to the running system
/x, ./x, x//y, x/.     cleaned
.wh..wh.x              dropped, unless it is the opaque marker: notes that aufs kept for itself
..                     refused
"""

from dataclasses import dataclass
from typing import Final

WHITEOUT_PREFIX: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_AUFS_NOTE: Final = ".wh..wh."
_RUNTIME_DIRECTORIES: Final = frozenset(("run", "tmp", "proc", "sys", "dev"))


class UnsafePathError(ValueError):
    """A path has ``..`` in it."""


def clean(name: str) -> str | None:
    """Path below the root of the tree (no leading slash; empty for the root), or None when it is dropped.

    Raises:
        UnsafePathError: it climbs with ``..``.
    """
    if name.startswith("usr/") and "/." not in name and "//" not in name and not name.endswith("/"):
        return name  # nearly every entry: keep the hot path short
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePathError(name)
    if not parts:
        return ""
    top = parts[0]
    if top in _RUNTIME_DIRECTORIES:
        return top if len(parts) == 1 else None
    if parts[-1].startswith(_AUFS_NOTE) and parts[-1] != OPAQUE:
        return None
    if top == "etc" or (len(parts) == 1 and top == WHITEOUT_PREFIX + "etc"):
        parts.insert(0, "usr")
    return "/".join(parts)


@dataclass(frozen=True)
class Whiteout:
    """An entry that removes: a name in a directory, or (empty name) all that lower layers have there."""

    directory: str
    name: str


def whiteout(path: str) -> Whiteout | None:
    """What a cleaned path removes, or None when it is an ordinary entry."""
    directory, _slash, name = path.rpartition("/")
    if not name.startswith(WHITEOUT_PREFIX):
        return None
    return Whiteout(directory, "" if name == OPAQUE else name.removeprefix(WHITEOUT_PREFIX))
