"""A typed, thin view of an ostree repository.

``Repo.native`` is the libostree object, for the modules of this package only; everybody else uses the methods.
"""

import errno
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import gi

from bootc_build.onhost.errors import UserError

gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree  # noqa: E402 - the version has to be chosen first

_FULL: Final = "Make room, for example by removing files from /var, then try again."
_EXPLAINED: Final = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EPERM,
        errno.ENOTSUP,
        errno.E2BIG,
        errno.ERANGE,
    )
)
_AT_FDCWD: Final = -100  # linux/fcntl.h
_DAMAGED: Final = "Check the repository with: ostree fsck"
# libostree says nowhere which folder a transaction got: it is the one that is open after and was not before.
_BEGINNING: Final = threading.Lock()
# ostree.repo-config(5); the first two are from before 2023.4.
_VERITY_KEYS: Final = (
    ("fsverity", "required"),
    ("fsverity", "opportunistic"),
    ("ex-integrity", "fsverity"),
    ("ex-integrity", "composefs"),
)
SYSTEM_REPO: Final = Path("/sysroot/ostree/repo")


@dataclass(frozen=True)
class PruneResult:
    """What pruning removed: objects, of how many there were, and bytes."""

    objects_before: int
    objects_removed: int
    bytes_freed: int


class Repo:
    """An open ostree repository."""

    def __init__(self, native: OSTree.Repo) -> None:
        self.native = native
        self.transaction_folder: int | None = None

    @property
    def path(self) -> Path:
        """Folder of the repository."""
        # A repository that a sysroot opened knows itself by a file descriptor only.
        return Path(f"/proc/self/fd/{self.native.get_dfd()}").readlink()

    def resolve_ref(self, ref: str) -> str | None:
        """Checksum of the commit that a ref names, or None."""
        return self.native.resolve_rev(ref, True)[1]

    def refs(self, prefix: str) -> dict[str, str]:
        """All refs below a prefix, under their whole names, with their commits."""
        flags = OSTree.RepoListRefsExtFlags.NONE
        return dict(self.native.list_refs_ext(prefix, flags, None)[1])

    def set_ref(self, ref: str, commit: str | None) -> None:
        """Point a ref at a commit, or remove it (None); at once, outside any transaction."""
        self.native.set_ref_immediate(None, ref, commit, None)

    def has_commit(self, commit: str) -> bool:
        """Whether the commit object is there (its content may still be missing when it is partial)."""
        return bool(self.native.has_object(OSTree.ObjectType.COMMIT, commit, None)[1])

    def commits(self) -> set[str]:
        """Every commit that is there, whether a ref leads to it or not."""
        found = self.native.list_commit_objects_starting_with("", None)[1]
        return {name.unpack()[0] for name in found}

    def commit_metadata(self, commit: str) -> dict[str, object]:
        """Metadata that was written with a commit, in Python's own types.

        Raises:
            UserError: there is no such commit.
        """
        return dict(self._commit(commit).get_child_value(0).unpack())

    def parent(self, commit: str) -> str | None:
        """The commit that a commit was made upon.

        Raises:
            UserError: there is no such commit.
        """
        return OSTree.commit_get_parent(self._commit(commit))

    def commit_timestamp(self, commit: str) -> int:
        """Time of a commit in seconds since 1970.

        Raises:
            UserError: there is no such commit.
        """
        return int(OSTree.commit_get_timestamp(self._commit(commit)))

    def detached_metadata(self, commit: str) -> dict[str, object]:
        """Metadata that was laid beside a commit later; empty when there is none."""
        found = self._detached(commit)
        return {} if found is None else dict(found.unpack())

    def update_detached_metadata(self, commit: str, changes: Mapping[str, str | None]) -> None:
        """Set (or, with None, remove) string values in the metadata beside a commit; others stay."""
        found = self._detached(commit)
        entries = [found.get_child_value(i) for i in range(found.n_children())] if found else []
        merged = {
            entry.get_child_value(0).get_string(): entry.get_child_value(1).get_variant()
            for entry in entries
        }
        for key, text in changes.items():
            if text is None:
                merged.pop(key, None)
            else:
                merged[key] = GLib.Variant("s", text)
        self.native.write_commit_detached_metadata(
            commit, GLib.Variant("a{sv}", merged) if merged else None, None
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Objects and refs written in the block appear when it ends well, else none of the refs do.

        While it is open, ``transaction_folder`` is the descriptor of libostree's folder for it, if that was found.
        """
        with _BEGINNING:
            before = self._staging_folders()
            self.native.prepare_transaction(None)
            new = self._staging_folders() - before
        self.transaction_folder = next(iter(new))[0] if len(new) == 1 else None
        try:
            yield
        except BaseException:
            self.transaction_folder = None
            self.native.abort_transaction(None)
            raise
        self.transaction_folder = None
        self.native.commit_transaction(None)

    def forget_unfinished(self) -> None:
        """Remove what transactions of this boot that were killed have left, which the next one would take over.

        Folders of transactions that are under way are locked, and stay.

        Raises:
            UserError: libostree cannot.
        """
        left = [path for path in (self.path / "tmp").glob("staging-*") if path.is_dir()]
        with explained(self), _BEGINNING:
            for _ in left:
                before = self._staging_folders()
                self.native.prepare_transaction(None)
                # It has locked one of them; ending it that way leaves the folder for the next to take over.
                for _fd, folder in self._staging_folders() - before:
                    shutil.rmtree(folder, ignore_errors=True)
                self.native.abort_transaction(None)

    def another(self) -> "Repo":
        """The same repository, opened once more: each has a transaction of its own."""
        again = Repo.open(self.path)
        again.native.set_disable_fsync(self.native.get_disable_fsync())
        return again

    @property
    def objects_folder(self) -> int | None:
        """A descriptor of the folder with all objects, or None."""
        wanted = self.path / "objects"
        return next((fd for fd, target in open_folders() if target == wanted), None)

    @property
    def wants_verity(self) -> bool:
        """Whether files are to be sealed with fs-verity as they are written."""
        config = self.native.get_config()
        for group, key in _VERITY_KEYS:
            try:
                if config.get_string(group, key) not in ("false", "no", "0"):
                    return True
            except GLib.Error:
                continue
        return False

    def _staging_folders(self) -> set[tuple[int, Path]]:
        tmp = self.path / "tmp"
        return {
            (fd, target)
            for fd, target in open_folders()
            if target.parent == tmp and target.name.startswith("staging-") and target.is_dir()
        }

    def disable_fsync(self) -> None:
        """Do not wait for the disk: for scratch trees that are copied elsewhere afterwards."""
        self.native.set_disable_fsync(True)

    def check_out(self, commit: str, target: Path) -> None:
        """Make a directory with a commit's files, hard links into the repository: nobody may write to them.

        Raises:
            UserError: libostree cannot.
        """
        options = OSTree.RepoCheckoutAtOptions()
        options.mode = OSTree.RepoCheckoutMode.NONE
        with explained(self):
            self.native.checkout_at(options, _AT_FDCWD, os.fspath(target), commit, None)

    def prune(self) -> PruneResult:
        """Remove objects that no ref reaches."""
        _ok, total, removed, size = self.native.prune(OSTree.RepoPruneFlags.REFS_ONLY, 0, None)
        return PruneResult(total, removed, size)

    def free_bytes(self) -> int:
        """Space that may still be filled: what is free, less what ``core.min-free-space-…`` keeps."""
        free = os.fstatvfs(self.native.get_dfd())
        kept = self.native.get_min_free_space_bytes()[1]
        return free.f_bavail * free.f_frsize - kept

    def _detached(self, commit: str) -> GLib.Variant | None:
        # The stubs know no absent result here.
        found: GLib.Variant | None = self.native.read_commit_detached_metadata(commit, None)[1]
        return found

    def _commit(self, commit: str) -> GLib.Variant:
        try:
            return self.native.load_commit(commit)[1]
        except GLib.Error as exc:
            raise UserError(
                f"Commit {commit} cannot be read from {self.path}: {exc.message}"
            ) from exc

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a repository; see `open_repo`."""
        native = OSTree.Repo.new(Gio.File.new_for_path(os.fspath(path)))
        try:
            native.open(None)
        except GLib.Error as exc:
            raise UserError(
                f"{path} is not an ostree repository that can be opened: {exc.message}"
            ) from exc
        return cls(native)


def open_folders() -> Iterator[tuple[int, Path]]:
    """Descriptors of this process and what they lead to."""
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208 - names only
    except OSError:
        return
    for name in names:
        try:
            yield int(name), Path(f"/proc/self/fd/{name}").readlink()
        except OSError:
            continue


@contextmanager
def explained(repo: Repo) -> Iterator[None]:
    """Writing to a repository: what libostree or the system refuses becomes an error for the user.

    Raises:
        UserError: no space, read-only, damaged; names the repository.
    """
    try:
        yield
    except GLib.Error as exc:
        remedy = _FULL if "No space left" in exc.message else _DAMAGED
        raise UserError(f"{repo.path} cannot be written: {exc.message}.", remedy) from exc
    except OSError as exc:
        if exc.errno not in _EXPLAINED:
            raise
        remedy = _FULL if exc.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise UserError(f"{repo.path} cannot be written: {exc.strerror}.", remedy) from exc


def open_repo(path: Path = SYSTEM_REPO) -> Repo:
    """Open an existing repository.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    return Repo.open(path)


def create_repo(path: Path) -> Repo:
    """Make a repository of mode ``bare``; one that is there already is opened.

    Raises:
        UserError: it cannot be made.
    """
    native = OSTree.Repo.new(Gio.File.new_for_path(os.fspath(path)))
    try:
        native.create(OSTree.RepoMode.BARE, None)
    except GLib.Error as exc:
        raise UserError(f"No repository could be made at {path}: {exc.message}") from exc
    return open_repo(path)
