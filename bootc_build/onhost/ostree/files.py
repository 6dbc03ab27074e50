"""Read files out of a commit, without a checkout."""

from typing import cast

import gi

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree.repo import Repo

gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree  # noqa: E402 - the version has to be chosen first

_CHUNK_BYTES = 65536
_QUERY = "standard::name,standard::type"


def _root(repo: Repo, commit: str) -> Gio.File:
    try:
        return repo.native.read_commit(commit, None)[1]
    except GLib.Error as error:
        raise UserError(f"Commit {commit} cannot be read: {error.message}") from error


def _text(repo: Repo, file: Gio.File, path: str) -> str:
    # Not Gio's load_contents(): it takes the file for one of the file system and complains on stderr.
    try:
        cast("OSTree.RepoFile", file).ensure_resolved()
        checksum = cast("OSTree.RepoFile", file).get_checksum()
        stream = repo.native.load_file(checksum, None)[1]
        chunks: list[bytes] = []
        while chunk := stream.read_bytes(_CHUNK_BYTES, None).get_data():
            chunks.append(chunk)
        return b"".join(chunks).decode()
    except GLib.Error as error:
        raise UserError(f"/{path} of the image cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"/{path} of the image cannot be read as text: {error}.", "Write it in UTF-8."
        ) from error


def file_names(repo: Repo, commit: str, directory: str) -> dict[str, bool]:
    """What is directly in a directory (relative): name to whether it is a directory itself.

    A directory that is not there has nothing.

    Raises:
        UserError: there is no such commit.
    """
    folder = _root(repo, commit).resolve_relative_path(directory)
    flags = Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS
    if folder.query_file_type(flags, None) != Gio.FileType.DIRECTORY:
        return {}
    names: dict[str, bool] = {}
    entries = folder.enumerate_children(_QUERY, flags, None)
    while (entry := entries.next_file(None)) is not None:
        names[entry.get_name()] = entry.get_file_type() == Gio.FileType.DIRECTORY
    return names


def has_file(repo: Repo, commit: str, path: str) -> bool:
    """Whether anything but a directory is at a path (relative); a link counts whatever it leads to.

    Raises:
        UserError: there is no such commit.
    """
    flags = Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS
    kind = _root(repo, commit).resolve_relative_path(path).query_file_type(flags, None)
    return kind in (Gio.FileType.REGULAR, Gio.FileType.SYMBOLIC_LINK)


def read_text_file(repo: Repo, commit: str, path: str) -> str | None:
    """The text of one regular file, or None where there is none.

    Raises:
        UserError: there is no such commit, or the file is not UTF-8.
    """
    file = _root(repo, commit).resolve_relative_path(path)
    if file.query_file_type(Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS, None) != Gio.FileType.REGULAR:
        return None
    return _text(repo, file, path)


def file_head(repo: Repo, commit: str, path: str, length: int) -> tuple[bytes, int]:
    """The first bytes of one regular file, ``length`` of them at most, and its size in bytes; nothing where there is none.

    Raises:
        UserError: there is no such commit, or the file cannot be read.
    """
    file = _root(repo, commit).resolve_relative_path(path)
    if file.query_file_type(Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS, None) != Gio.FileType.REGULAR:
        return b"", 0
    try:
        found = cast("OSTree.RepoFile", file)
        found.ensure_resolved()
        _done, stream, info, _xattrs = repo.native.load_file(found.get_checksum(), None)
        head = b""
        # Nothing at all must not be asked for: GLib complains of that on stderr.
        while (left := length - len(head)) and (chunk := stream.read_bytes(left, None).get_data()):
            head += chunk
    except GLib.Error as error:
        raise UserError(f"/{path} of the image cannot be read: {error.message}") from error
    return head, info.get_size()


class CommitTree:
    """A commit as the root directory that it becomes: its ``usr/etc`` is found as ``etc``, too."""

    def __init__(self, repo: Repo, commit: str) -> None:
        self._repo = repo
        self._commit = commit
        self._root = _root(repo, commit)

    def names(self, directory: str) -> list[str]:
        """What is in a directory; nothing where there is none."""
        return list(file_names(self._repo, self._commit, _stored(directory)))

    def is_directory(self, path: str) -> bool:
        """Whether a path is a directory; a link to one is none."""
        file = self._root.resolve_relative_path(_stored(path))
        flags = Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS
        return bool(file.query_file_type(flags, None) == Gio.FileType.DIRECTORY)

    def link(self, path: str) -> str | None:
        """Where a symbolic link leads; None for what is none."""
        file = self._root.resolve_relative_path(_stored(path))
        flags = Gio.FileQueryInfoFlags.NOFOLLOW_SYMLINKS
        if file.query_file_type(flags, None) != Gio.FileType.SYMBOLIC_LINK:
            return None
        return file.query_info("standard::symlink-target", flags, None).get_symlink_target()

    def text(self, path: str) -> str | None:
        """Text of a regular file; None where there is none."""
        return read_text_file(self._repo, self._commit, _stored(path))


def _stored(path: str) -> str:
    first, _slash, _rest = path.partition("/")
    return f"usr/{path}" if first == "etc" else path
