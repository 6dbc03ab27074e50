"""debugfs, e2fsck and e2undo: look at an ext4 file system in a disk file, as it is and as its journal makes it."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bootc_build.onhost.process import CommandError, run, running
from bootc_build.tools.e2fsprogs import BLOCK, Ext4Slot

_ECHO = "debugfs: "
# e2fsck's status when a person has to look; 1 and 2 are errors that it mended.
_UNCORRECTED = 4
_OF_UNDO = re.compile(r"this can be undone using|^\s+e2undo |^e2fsck \d")
_TARGET = re.compile(r"\s*FS block (\d+) logged")
_ENTRY = re.compile(r"/(\d+)/([0-7]+)/(\d+)/(\d+)/(.*)/(\d*)/$")


class Inode(NamedTuple):
    """What a directory says of a name, and the inode of it.

    Attributes:
        number: of the inode.
        mode: kind and permissions.
        uid: owner.
        gid: group.
        size: in bytes; 0 for a directory.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int


def list_directories(slot: Ext4Slot, paths: Sequence[str]) -> dict[str, Mapping[str, Inode]]:
    """The names in directories, without `.` and `..`; one that is not there is empty.

    Args:
        slot: the file system.
        paths: absolute inside it.
    """
    said = run_debugfs(slot, [f'ls -p "{path}"' for path in paths])
    return {path: _names(tuple(lines)) for path, lines in zip(paths, said, strict=True)}


# Of a disk that is looked at again and again hardly any directory has changed.
@lru_cache(maxsize=40_000)
def _names(lines: tuple[str, ...]) -> Mapping[str, Inode]:
    found = {}
    for line in lines:
        if match := _ENTRY.match(line):
            number, mode, uid, gid, name, size = match.groups()
            if name not in {".", ".."} and number != "0":
                found[name] = Inode(int(number), int(mode, 8), int(uid), int(gid), int(size or 0))
    return MappingProxyType(found)


def extract(slot: Ext4Slot, paths: Sequence[tuple[str, Path]]) -> None:
    """Copy files, links and whole directories out, each to a folder that is there; what is missing is left out."""
    run_debugfs(slot, [f'rdump "{source}" "{target}"' for source, target in paths])


def run_debugfs(slot: Ext4Slot, commands: Sequence[str]) -> list[list[str]]:
    """Run commands that read; the lines that each printed. Complaints of single commands are not errors.

    Raises:
        CommandError: it cannot open the file system.
    """
    # -c: without the bitmaps, -n: without checksums; neither has to fit before the journal is replayed, and GRUB looks
    # at neither. What is mounted e2fsck has looked at.
    argv = ["debugfs", "-c", "-n", "-f", "/dev/stdin", slot.device]
    # Files, because debugfs writes line by line, and reading ten thousand small pieces from a pipe takes seconds.
    with (
        tempfile.TemporaryFile() as asked,
        tempfile.TemporaryFile() as answered,
        tempfile.TemporaryFile() as complained,
    ):
        asked.write("".join(f"{command}\n" for command in commands).encode())
        asked.seek(0)
        with running(argv, stdin=asked, stdout=answered, stderr=complained) as process:
            status = process.wait()
        answered.seek(0)
        complained.seek(0)
        text = answered.read().decode(errors="surrogateescape")
        complaints = complained.read().decode(errors="backslashreplace")
    said: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(_ECHO):
            said.append([])
        elif said:
            said[-1].append(line)
    if len(said) != len(commands):
        raise CommandError(argv, status, complaints[-2000:])
    return said


@dataclass(frozen=True)
class Mended:
    """A file system as a boot finds it: its journal replayed, and mended as far as that is safe.

    Args:
        complaints: what the check would not mend by itself; none for a file system that comes up.
    """

    complaints: tuple[str, ...]


@contextmanager
def mended(slot: Ext4Slot, folder: Path) -> Iterator[Mended]:
    """Do what the check at boot does (`e2fsck -p`), looking at everything; undo all of it afterwards.

    Args:
        slot: the file system, which has a file of its own: e2fsck forgets an offset when it has replayed a journal.
        folder: for a file of its own.

    Raises:
        CommandError: nothing can be undone, or e2undo failed.
    """
    before = _journal_targets(slot)
    if before is None:
        yield Mended(("e2fsck: the journal cannot be found",))
        return
    undo = folder / "mended.e2undo"
    try:
        # In two steps: what e2fsck writes from the journal it does not note for e2undo.
        done = run(["e2fsck", "-E", "journal_only", "-y", str(slot.disk)], check=False)
        if done.status < _UNCORRECTED:
            done = run(["e2fsck", "-f", "-p", "-z", str(undo), str(slot.disk)], check=False)
        said = [
            line.strip()
            for line in (done.stdout + done.stderr).splitlines()
            if line.strip() and not _OF_UNDO.search(line)
        ]
        bad = done.status >= _UNCORRECTED
        yield Mended(tuple(f"e2fsck: {line}" for line in said[-5:]) if bad else ())
    finally:
        if undo.exists():
            run(["e2undo", "-f", str(undo), str(slot.disk)])
            undo.unlink()
        with slot.disk.open("r+b") as disk:
            for position, data in before:
                disk.seek(position)
                disk.write(data)


def _journal_targets(slot: Ext4Slot) -> list[tuple[int, bytes]] | None:
    """Everything that replaying the journal may write to: position in the disk's file, present content.

    None where there is no journal to be found, in a file system that should have one.
    """
    # In this order: logdump does not end its last line.
    journal, said = run_debugfs(slot, ["blocks <8>", "logdump -a"])
    if not (own := " ".join(journal).split()):
        return None
    blocks = {int(found[1]) for line in said if (found := _TARGET.match(line))}
    # The superblock, and the journal's own.
    blocks |= {0, int(own[0])}
    targets = []
    with slot.disk.open("rb") as disk:
        for block in sorted(blocks):
            position = slot.offset + block * BLOCK
            disk.seek(position)
            targets.append((position, disk.read(BLOCK)))
    return targets
