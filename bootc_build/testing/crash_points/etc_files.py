"""The files of a directory of the disk, each with a digest; what the log never wrote to is read once."""

import hashlib
import stat
from collections.abc import Set as AbstractSet
from pathlib import Path

from bootc_build.testing.crash_points.scratch import emptied
from bootc_build.tools.e2fsprogs import BLOCK, Ext4Slot
from bootc_build.tools.ext4_inspection import Inode, extract, list_directories, run_debugfs

_SECTORS = BLOCK // 512
_Key = tuple[Inode, tuple[str, ...]]


class FileDigests:
    """Digests of whole trees of small files.

    Args:
        slot: the file system.
        written: the sectors, from its start, that the log writes to anywhere.
        scratch: a folder of one's own.
    """

    def __init__(self, slot: Ext4Slot, written: AbstractSet[int], scratch: Path) -> None:
        self._slot = slot
        self._written = {sector // _SECTORS for sector in written}
        self._scratch = scratch
        self._known: dict[tuple[str, _Key], str] = {}

    def of_tree(self, root: str) -> dict[str, str]:
        """Path below a directory -> digest of content, or target of a link, with mode and owner."""
        files: dict[str, Inode] = {}
        level = [""]
        while level:
            listed = list_directories(self._slot, [root + path for path in level])
            below = []
            for path in level:
                for name, inode in listed[root + path].items():
                    if stat.S_ISDIR(inode.mode):
                        below.append(f"{path}/{name}")
                    elif stat.S_ISREG(inode.mode) or stat.S_ISLNK(inode.mode):
                        files[f"{path}/{name}"] = inode
            level = below
        said = run_debugfs(self._slot, [f"blocks <{inode.number}>" for inode in files.values()])
        keys = {
            path: (inode, tuple(" ".join(lines).split()))
            for (path, inode), lines in zip(files.items(), said, strict=True)
        }
        unknown = [path for path, key in keys.items() if (root + path, key) not in self._known]
        read = self._read(root, unknown)
        digests = {}
        for path, key in keys.items():
            content = read.get(path) or self._known[root + path, key]
            if path in read and self._never_changes(key):
                self._known[root + path, key] = content
            inode = key[0]
            digests[path.lstrip("/")] = f"{content} {inode.mode:o} {inode.uid}:{inode.gid}"
        return digests

    def _never_changes(self, key: _Key) -> bool:
        inode, blocks = key
        if not blocks:
            return inode.size == 0
        return all(block.isdecimal() and int(block) not in self._written for block in blocks)

    def _read(self, root: str, paths: list[str]) -> dict[str, str]:
        with emptied(self._scratch) as copies:
            targets = [copies / str(number) for number in range(len(paths))]
            for target in targets:
                target.mkdir()
            if paths:
                pairs = [(root + path, target) for path, target in zip(paths, targets, strict=True)]
                extract(self._slot, pairs)
            return {
                path: digest_of(target / path.rpartition("/")[2])
                for path, target in zip(paths, targets, strict=True)
            }


def digest_of(path: Path) -> str:
    """Of a file's content, or the target of a link; "missing" where there is neither."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
