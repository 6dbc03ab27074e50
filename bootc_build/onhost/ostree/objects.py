"""Read and write the objects of a repository: files, links, directories and their metadata."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from sys import byteorder
from typing import Final, NamedTuple, cast

import gi

from bootc_build.onhost.ostree import gvariant
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.staging import Staging
from bootc_build.onhost.ostree.tree import DIRTREE_TYPE, Directory, decode, encode

gi.require_version("OSTree", "1.0")
from gi.repository import GLib, OSTree  # noqa: E402 - the version has to be chosen first

_S_IFDIR: Final = 0o040000
_S_IFREG: Final = 0o100000
_NO_XATTRS: Final = GLib.Variant("a(ayay)", [])
_TREE_TYPE: Final = GLib.VariantType.new(DIRTREE_TYPE)
_COPY_BYTES: Final = 512 * 1024
_TYPES: Final = {
    OSTree.ObjectType.COMMIT: GLib.VariantType.new("(a{sv}aya(say)sstayay)"),
    OSTree.ObjectType.DIR_TREE: _TREE_TYPE,
    OSTree.ObjectType.DIR_META: GLib.VariantType.new("(uuua(ayay))"),
}


def open_staging(repo: Repo) -> Staging | None:
    """The folder of the repository's open transaction, or None where libostree has to write itself."""
    if repo.native.get_mode() != OSTree.RepoMode.BARE or os.geteuid() != 0 or repo.wants_verity:
        return None
    folder = repo.transaction_folder
    objects = repo.objects_folder
    if folder is None or objects is None:
        return None
    return Staging(folder, objects)


class FileFacts(NamedTuple):
    """Mode (with the kind) and SELinux label of a file."""

    mode: int
    label: bytes | None


class ObjectStore:
    """The objects of one repository. Writing needs an open transaction.

    Args:
        repo: the repository.
        direct: write files without libostree where that works; only for a store made inside a transaction.
    """

    def __init__(self, repo: Repo, *, direct: bool = False) -> None:
        self._native = repo.native
        self._objects = repo.path / "objects"
        self._staging = open_staging(repo) if direct else None
        self._dirmetas: dict[tuple[int, int, int], str] = {}

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """Write a regular file that is in memory; its checksum."""
        if self._staging is not None:
            return self._staging.write_file(uid, gid, mode, xattrs, data)
        return self._native.write_regfile_inline(
            None, uid, gid, _S_IFREG | mode, _xattrs(xattrs), data, None
        )

    def write_large_file(
        self,
        uid: int,
        gid: int,
        mode: int,
        xattrs: Mapping[bytes, bytes],
        *,
        size: int,
        chunks: Iterator[bytes],
    ) -> str:
        """Write a regular file piece by piece; its checksum."""
        if self._staging is not None:
            return self._staging.write_large_file(uid, gid, mode, xattrs, chunks=chunks)
        writer = self._native.write_regfile(None, uid, gid, _S_IFREG | mode, size, _xattrs(xattrs))
        for chunk in chunks:
            writer.write_all(chunk, None)
        return writer.finish(None)

    def write_symlink(self, uid: int, gid: int, xattrs: Mapping[bytes, bytes], target: str) -> str:
        """Write a symbolic link; its checksum."""
        return self._native.write_symlink(None, uid, gid, _xattrs(xattrs), target, None)

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes]) -> str:
        """Write owner, permissions and extended attributes of a directory; the checksum."""
        key = (uid, gid, mode)
        if not xattrs and key in self._dirmetas:
            return self._dirmetas[key]
        numbers = (_big_endian(uid), _big_endian(gid), _big_endian(_S_IFDIR | mode))
        variant = GLib.Variant("(uuua(ayay))", (*numbers, _xattr_list(xattrs)))
        checksum = self._write(OSTree.ObjectType.DIR_META, variant)
        if not xattrs:
            self._dirmetas[key] = checksum
        return checksum

    def write_directory(self, directory: Directory) -> str:
        """Write the names in a directory; the checksum."""
        variant = GLib.Variant.new_from_bytes(_TREE_TYPE, GLib.Bytes.new(encode(directory)), False)
        return self._write(OSTree.ObjectType.DIR_TREE, variant)

    def load_directory(self, checksum: str) -> Directory:
        """Read the names in a directory."""
        variant = self._native.load_variant(OSTree.ObjectType.DIR_TREE, checksum)[1]
        return decode(variant.get_data_as_bytes().get_data() or b"")

    def load_dirmeta(self, checksum: str) -> tuple[int, int, int, dict[bytes, bytes]]:
        """Owner, group, permissions and extended attributes of a directory."""
        variant = self._native.load_variant(OSTree.ObjectType.DIR_META, checksum)[1]
        uid, gid, mode = (_big_endian(variant.get_child_value(i).get_uint32()) for i in range(3))
        return uid, gid, mode & 0o7777, _unpack_xattrs(variant.get_child_value(3))

    def file_facts(self, checksum: str) -> FileFacts:
        """Mode and SELinux label of a file object that is in its place already."""
        path = f"{self._objects}/{checksum[:2]}/{checksum[2:]}.file"
        try:
            label = os.getxattr(path, "security.selinux", follow_symlinks=False)
        except OSError as exc:
            if exc.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
            label = None
        return FileFacts(os.lstat(path).st_mode, label)

    def xattrs(self, checksum: str) -> dict[bytes, bytes]:
        """Extended attributes of a file object."""
        return _unpack_xattrs(self._native.load_file(checksum, None)[3])

    def chunks(self, checksum: str, size: int) -> Iterator[bytes]:
        """The content of a regular file object in pieces."""
        stream = self._native.load_file(checksum, None)[1]
        while chunk := stream.read_bytes(size, None).get_data():
            yield chunk

    def has_file(self, checksum: str) -> bool:
        """Whether there is such a file object."""
        return self._native.has_object(OSTree.ObjectType.FILE, checksum, None)[1]

    def write_again(self, checksum: str, xattrs: Mapping[bytes, bytes]) -> str:
        """Write a file object once more with other extended attributes; the new checksum."""
        info = self._native.load_file(checksum, None)[2]
        uid, gid = (info.get_attribute_uint32(f"unix::{key}") for key in ("uid", "gid"))
        if info.get_is_symlink():
            return self.write_symlink(uid, gid, xattrs, info.get_symlink_target() or "")
        mode = info.get_attribute_uint32("unix::mode") & 0o7777
        chunks = self.chunks(checksum, _COPY_BYTES)
        if info.get_size() <= _COPY_BYTES:
            return self.write_file(uid, gid, mode, xattrs, b"".join(chunks))
        return self.write_large_file(uid, gid, mode, xattrs, size=info.get_size(), chunks=chunks)

    def write_checked(self, kind: OSTree.ObjectType, checksum: str, data: bytes) -> None:
        """Write a commit, a dirtree or a dirmeta that came from elsewhere.

        Raises:
            ValueError: it is not what its checksum says.
        """
        if hashlib.sha256(data).hexdigest() != checksum:
            raise ValueError(checksum)
        variant = GLib.Variant.new_from_bytes(_TYPES[kind], GLib.Bytes.new(data), False)
        self._native.write_metadata(kind, checksum, variant, None)

    def is_empty_file(self, checksum: str) -> bool:
        """Whether a file object is a regular file without content."""
        info = self._native.load_file(checksum, None)[2]
        kind = info.get_attribute_uint32("unix::mode") & 0o170000
        return kind == _S_IFREG and info.get_size() == 0

    def root_of(self, commit: str) -> tuple[str, str]:
        """Checksums of a commit's root: dirtree and dirmeta."""
        variant = self._native.load_commit(commit)[1]
        tree, meta = (variant.get_child_value(i).get_data_as_bytes().get_data() for i in (6, 7))
        return (tree or b"").hex(), (meta or b"").hex()

    def commit_metadata(self, commit: str) -> dict[str, GLib.Variant]:
        """Metadata that was written with a commit, as libostree has it."""
        listed = self._native.load_commit(commit)[1].get_child_value(0)
        entries = [listed.get_child_value(i) for i in range(listed.n_children())]
        return {
            entry.get_child_value(0).get_string(): entry.get_child_value(1).get_variant()
            for entry in entries
        }

    def write_commit(
        self,
        tree: str,
        dirmeta: str,
        metadata: Mapping[str, GLib.Variant | tuple[str, object]],
        timestamp: int,
        parent: str | None = None,
    ) -> str:
        """Write a commit; its checksum.

        Args:
            tree: checksum of the root's dirtree object.
            dirmeta: checksum of the root's dirmeta object.
            metadata: what is written with it: variants, or type strings with values.
            timestamp: seconds since 1970.
            parent: checksum of the commit before it.
        """
        root = self._native.write_mtree(
            OSTree.MutableTree.new_from_checksum(self._native, tree, dirmeta), None
        )[1]
        assert isinstance(root, OSTree.RepoFile)  # noqa: S101 - the binding only promises a Gio.File
        variants = {
            key: GLib.Variant(*value) if isinstance(value, tuple) else value
            for key, value in metadata.items()
        }
        return self._native.write_commit_with_time(
            parent, None, None, GLib.Variant("a{sv}", variants), root, timestamp, None
        )[1]

    def set_ref(self, ref: str, commit: str) -> None:
        """Point a ref at a commit when the transaction ends well."""
        self._native.transaction_set_ref(None, ref, commit)

    def _write(self, kind: OSTree.ObjectType, variant: GLib.Variant) -> str:
        return bytes(self._native.write_metadata(kind, None, variant, None)[1]).hex()


def _big_endian(number: int) -> int:
    """A number whose bytes, written by a little-endian machine, are in ostree's big-endian order."""
    return int.from_bytes(number.to_bytes(4, "big"), byteorder)


def _xattr_list(xattrs: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(name + b"\0", value) for name, value in sorted(xattrs.items())]


def read_xattrs(data: bytes) -> dict[bytes, bytes]:
    """Extended attributes from the serialised form that objects have them in.

    Raises:
        ValueError: it is no such form.
    """
    listed = cast("list[tuple[bytes, bytes]]", gvariant.decode("a(ayay)", data))
    return {name.rstrip(b"\0"): value for name, value in listed}


def _unpack_xattrs(listed: GLib.Variant) -> dict[bytes, bytes]:
    return read_xattrs(listed.get_data_as_bytes().get_data() or b"")


def _xattrs(xattrs: Mapping[bytes, bytes]) -> GLib.Variant:
    return GLib.Variant("a(ayay)", _xattr_list(xattrs)) if xattrs else _NO_XATTRS
