"""Compare the trees of two commits by their objects, without libostree and without a checkout.

A directory whose objects have the same checksums in both is the same, with all below it; so the time goes with what
differs, not with the size.
"""

from dataclasses import dataclass
from typing import cast

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree.gvariant import decode
from bootc_build.onhost.ostree.sysroot_files import COMMIT_TYPE, SysrootFiles
from bootc_build.onhost.ostree.tree import Directory
from bootc_build.onhost.ostree.tree import decode as decode_directory

_TREE, _META = 6, 7  # where a commit has the checksums of its root's objects


@dataclass(frozen=True)
class FileChanges:
    """Paths, absolute and sorted; of a directory that came or went, also all that is in it, and a ``/`` behind."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def compare_trees(files: SysrootFiles, old: str, new: str) -> FileChanges:
    """What another commit has more, less and otherwise.

    Raises:
        UserError: an object of one of them cannot be read.
    """
    comparison = _Comparison(files)
    comparison.directory("/", comparison.root(old), comparison.root(new))
    return FileChanges(
        tuple(sorted(comparison.added)),
        tuple(sorted(comparison.removed)),
        tuple(sorted(comparison.changed)),
    )


class _Comparison:
    def __init__(self, files: SysrootFiles) -> None:
        self._files = files
        self.added: list[str] = []
        self.removed: list[str] = []
        self.changed: list[str] = []

    def root(self, commit: str) -> tuple[str, str]:
        parts = cast("tuple[bytes, ...]", decode(COMMIT_TYPE, self._read(commit, "commit")))
        return parts[_TREE].hex(), parts[_META].hex()

    def directory(self, path: str, old: tuple[str, str], new: tuple[str, str]) -> None:
        """Compare two directories, each given by its objects' checksums."""
        if old[1] != new[1]:
            self.changed.append(path)
        if old[0] == new[0]:
            return
        before, after = self._directory(old[0]), self._directory(new[0])
        for name in before.dirs.keys() & after.dirs.keys():
            self.directory(f"{path}{name}/", before.dirs[name], after.dirs[name])
        self.changed.extend(
            f"{path}{name}"
            for name in before.files.keys() & after.files.keys()
            if before.files[name] != after.files[name]
        )
        self._list(path, before, after, self.removed)
        self._list(path, after, before, self.added)

    def _list(self, path: str, one: Directory, other: Directory, into: list[str]) -> None:
        """Everything that one directory has and the other has not."""
        into.extend(f"{path}{name}" for name in one.files.keys() - other.files.keys())
        for name in one.dirs.keys() - other.dirs.keys():
            into.append(f"{path}{name}/")
            self._list(f"{path}{name}/", self._directory(one.dirs[name][0]), Directory(), into)

    def _directory(self, checksum: str) -> Directory:
        return decode_directory(self._read(checksum, "dirtree"))

    def _read(self, checksum: str, kind: str) -> bytes:
        try:
            return self._files.read_object(checksum, kind)
        except OSError as error:
            raise UserError(
                f"The object {checksum}.{kind} cannot be read: {error.strerror}.",
                "Check the repository with: ostree fsck",
            ) from error
