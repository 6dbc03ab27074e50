"""Objects of an ostree repository in a disk file: which are there, and whether they are what their names say.

An object's name is the SHA-256 of what it is. For directories, their metadata and commits that is the file; for a file
(of a repository in the mode `bare`) it is a header before its content: size, four bytes of nothing, and a GVariant
``(uuuusa(ayay))`` of owner, group, mode, device, link target and extended attributes, all numbers big-endian.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.ext4_inspection import Inode, extract, list_directories, run_debugfs

OBJECTS = "/ostree/repo/objects"
_XATTR = re.compile(r"^\s+([\w.]+) \(\d+\)")


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the disk, to be compared with the checksum of an object.

    Args:
        path: inside the file system.
        inode: what its directory says of it.
        checksum: that it has to have.
    """

    path: str
    inode: Inode
    checksum: str


def list_objects(slot: Ext4Slot) -> dict[str, Inode]:
    """All objects by name ("CHECKSUM.KIND")."""
    folders = [f"{OBJECTS}/{number:02x}" for number in range(256)]
    listed = list_directories(slot, folders)
    return {
        f"{folder[-2:]}{name}": inode
        for folder in folders
        for name, inode in listed[folder].items()
    }


def object_path(name: str) -> str:
    """Where an object is."""
    return f"{OBJECTS}/{name[:2]}/{name[2:]}"


def read_blocks(slot: Ext4Slot, inodes: Iterable[int], block_sectors: int = 8) -> dict[int, int]:
    """Sector of the file system -> inode, for the first sector of each block of some inodes' contents."""
    wanted = list(inodes)
    said = run_debugfs(slot, [f"blocks <{number}>" for number in wanted])
    return {
        int(block) * block_sectors: number
        for number, lines in zip(wanted, said, strict=True)
        for line in lines
        for block in line.split()
        if block.isdecimal()
    }


def read_metadata(slot: Ext4Slot, names: Iterable[str], scratch: Path) -> dict[str, bytes]:
    """Contents of objects that are no files, by name; damaged ones are left out."""
    wanted = [name for name in names if not name.endswith(".file")]
    contents: dict[str, bytes] = {}
    with _copied(slot, [object_path(name) for name in wanted], scratch) as copies:
        for name, copy in zip(wanted, copies, strict=True):
            data = copy.read_bytes() if copy.is_file() else b""
            if hashlib.sha256(data).hexdigest() == name.partition(".")[0]:
                contents[name] = data
    return contents


def find_damaged(slot: Ext4Slot, contents: Iterable[Content], scratch: Path) -> list[Content]:
    """Those files whose content, owner, mode or attributes are not what their checksums say."""
    wanted = list(contents)
    damaged = []
    with _copied(slot, [one.path for one in wanted], scratch) as copies:
        for one, copy in zip(wanted, copies, strict=True):
            if not os.path.lexists(copy) or _checksum(one.inode, copy, {}) != one.checksum:
                damaged.append(one)
    # Extended attributes are rare, and slow to ask for.
    return [one for one in damaged if not _right_with_xattrs(slot, one, scratch)]


def _right_with_xattrs(slot: Ext4Slot, content: Content, scratch: Path) -> bool:
    [lines] = run_debugfs(slot, [f'ea_list "{content.path}"'])
    names = [match[1] for line in lines if (match := _XATTR.match(line))]
    if not names:
        return False
    files = {name: scratch / f"xattr{number}" for number, name in enumerate(names)}
    run_debugfs(
        slot, [f'ea_get -f "{file}" "{content.path}" {name}' for name, file in files.items()]
    )
    xattrs = {name: file.read_bytes() for name, file in files.items() if file.is_file()}
    for file in files.values():
        file.unlink(missing_ok=True)
    with _copied(slot, [content.path], scratch) as [copy]:
        return os.path.lexists(copy) and _checksum(content.inode, copy, xattrs) == content.checksum


def _checksum(inode: Inode, copy: Path, xattrs: Mapping[str, bytes]) -> str:
    target = b""
    if stat.S_ISLNK(inode.mode):
        if not copy.is_symlink():
            return ""
        target = os.fsencode(copy.readlink())
    elif copy.is_symlink() or not copy.is_file():
        return ""
    digest = hashlib.sha256(_header(inode, target, xattrs))
    if not stat.S_ISLNK(inode.mode):
        with copy.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _header(inode: Inode, target: bytes, xattrs: Mapping[str, bytes]) -> bytes:
    numbers = b"".join(
        number.to_bytes(4, "big") for number in (inode.uid, inode.gid, inode.mode, 0)
    )
    body = numbers + target + b"\0"
    end = len(body)
    body += _array([_pair(name.encode() + b"\0", xattrs[name]) for name in sorted(xattrs)])
    return _framed(body, [end], sized=True)


def _pair(first: bytes, second: bytes) -> bytes:
    return _framed(first + second, [len(first)])


def _array(items: list[bytes]) -> bytes:
    ends, position = [], 0
    for item in items:
        position += len(item)
        ends.append(position)
    return _framed(b"".join(items), ends) if items else b""


def _framed(body: bytes, ends: list[int], *, sized: bool = False) -> bytes:
    """With the framing offsets behind it, each as wide as the whole needs (GVariant specification, 2.3.6)."""
    width = next(width for width in (1, 2, 4) if len(body) + width * len(ends) < 1 << (8 * width))
    framed = body + b"".join(end.to_bytes(width, "little") for end in ends)
    return len(framed).to_bytes(4, "big") + bytes(4) + framed if sized else framed


class _copied:  # noqa: N801 - used like a function
    """Copies of files of the file system in a folder, for as long as the block lasts."""

    def __init__(self, slot: Ext4Slot, paths: list[str], scratch: Path) -> None:
        self._slot, self._paths, self._folder = slot, paths, scratch / "copies"

    def __enter__(self) -> list[Path]:
        targets = [self._folder / str(number) for number in range(len(self._paths))]
        for target in targets:
            target.mkdir(parents=True)
        if targets:
            extract(self._slot, list(zip(self._paths, targets, strict=True)))
        return [
            target / path.rpartition("/")[2]
            for target, path in zip(targets, self._paths, strict=True)
        ]

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
