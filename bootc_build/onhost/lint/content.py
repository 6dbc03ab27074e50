"""Lints on names and kinds of files: what the import would reject."""

import posixpath
from collections import defaultdict
from collections.abc import Iterator

from bootc_build.onhost.lint.model import Problem, printable
from bootc_build.onhost.lint.root import Root

# The import keeps these directories and drops what is in them.
_DROPPED = ("/dev", "/proc", "/run", "/sys", "/tmp")  # noqa: S108 - of the image


def utf8(root: Root) -> Iterator[Problem]:
    """Find names and link targets that are not UTF-8; libostree can store neither."""
    names = [entry.path for entry in root.entries if not _is_utf8(posixpath.basename(entry.path))]
    if names:
        yield Problem(
            "File names that are not UTF-8; libostree cannot store them.",
            "Rename or remove them in the step that makes them.",
            names,
        )
    links = [
        entry.path
        for entry in root.entries
        if entry.kind == "l" and not _is_utf8(root.target_of(entry))
    ]
    if links:
        yield Problem(
            "Symbolic links whose target is not UTF-8; libostree cannot store them.",
            "Make them again with a target in UTF-8, or remove them.",
            links,
        )


def _is_utf8(text: str) -> bool:
    # Bytes that did not decode are surrogates, and those do not encode.
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def special_files(root: Root) -> Iterator[Problem]:
    """Find devices, FIFOs and sockets outside the directories that are dropped."""
    dropped = tuple(f"{folder}/" for folder in _DROPPED)
    found = [
        entry.path
        for entry in root.entries
        if entry.kind == "s" and not entry.mounted and not entry.path.startswith(dropped)
    ]
    if found:
        yield Problem(
            "Device nodes, FIFOs or sockets; libostree stores regular files, directories and links only.",
            "Remove them in the step that makes them, and have tmpfiles.d make what the host needs: "
            "p /path for a FIFO, c or b for a device",
            found,
        )


def dropped_hardlink(root: Root) -> Iterator[Problem]:
    """Find files that are hard links to a name in a directory whose content is dropped.

    In the layer one of the names holds the content and the other only points to it.
    """
    wanted: dict[tuple[int, int], str] = {}
    for entry in root.below(*_DROPPED):
        if entry.kind == "f" and not entry.mounted:
            status = root.status_of(entry)
            if status is not None and status.st_nlink > 1:
                wanted[status.st_dev, status.st_ino] = entry.path
    if not wanted:
        return
    dropped = tuple(f"{folder}/" for folder in _DROPPED)
    names: defaultdict[str, list[str]] = defaultdict(list)
    for entry in root.entries:
        if entry.kind != "f" or entry.path.startswith(dropped):
            continue
        status = root.status_of(entry)
        if status is not None and (other := wanted.get((status.st_dev, status.st_ino))):
            names[other].append(entry.path)
    for other, paths in sorted(names.items()):
        yield Problem(
            f"Hard links to {printable(other)}, which is dropped at import; the content may go with it.",
            f"Copy instead of linking, or remove the other name in the same step: RUN … && rm {printable(other)}",
            paths,
        )
