"""mke2fs and debugfs: ext4 file systems inside a disk file, without a loop device or a mount.

What they write is not synced: that is for whoever gives the disk file its name.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, run

BLOCK = 4096
# Each of the programs syncs the file that it was given, even one that only reads it.
_run = partial(run, synced=False)
_IMMUTABLE = 0x10
# e2fsck's exit status when it has written something, as it is meant to.
_CORRECTED = 1
# A line of debugfs's `ls -p`: /inode/mode/uid/gid/name/size/
_LISTED = re.compile(r"^/\d+/\d+/\d+/\d+/([^/]+)/", re.MULTILINE)
# debugfs's words for a path that leads nowhere.
_OF_ABSENCE = ("File not found by ext2_lookup", "Ext2 inode is not a directory")


@dataclass(frozen=True)
class Ext4Slot:
    """A place for an ext4 file system: a file, the first byte in it, and a length in bytes."""

    disk: Path
    offset: int
    size: int

    @property
    def device(self) -> str:
        """As libext2fs takes it on every command line but mke2fs's."""
        return f"{self.disk}?offset={self.offset}"


def make_ext4(  # noqa: D417 - the rest speaks for itself
    slot: Ext4Slot, tree: Path, *, uuid: UUID, hash_seed: UUID, label: str, timestamp: int
) -> None:
    """Make a file system with the contents of ``tree``: owners, modes, xattrs, hard links and holes kept.

    Args:
        slot: where; the file must read as zeros there.
        timestamp: seconds since the epoch, for the file system's own times.

    Raises:
        MissingProgramError, CommandError.
    """
    extended = [
        f"offset={slot.offset}",
        f"hash_seed={hash_seed}",
        # The file is a hole: nothing to wipe, now or at the first mount.
        "assume_storage_prezeroed=1",
        "nodiscard",
        "root_owner=0:0",
    ]
    # mke2fs sums an inode or directory up anew at every step of filling it: more than half of its time.
    features = "verity,^metadata_csum"
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "1", "-O", features]
    argv += ["-U", str(uuid), "-L", label, "-E", ",".join(extended), "-d", str(tree)]
    _run([*argv, str(slot.disk), str(slot.size // BLOCK)], env=_clock(timestamp))
    _add_checksums(slot, timestamp)


def _add_checksums(slot: Ext4Slot, timestamp: int) -> None:
    """Sum all metadata up, once."""
    _run(["tune2fs", "-O", "metadata_csum", slot.device], env=_clock(timestamp))
    argv = ["e2fsck", "-f", "-y", "-D", slot.device]
    done = _run(argv, check=False, env=_clock(timestamp))
    if done.status not in (0, _CORRECTED):
        raise CommandError(argv, done.status, done.stdout + done.stderr)


def freeze_times(slot: Ext4Slot, timestamp: int) -> None:
    """Set access and change times of every inode, which nobody can set on the tree beforehand.

    Raises:
        CommandError.
    """
    # mke2fs -d hands inodes out in a row; 11 is lost+found, and those below are the file system's own.
    inodes = (2, *range(11, _used_inodes(slot) + 1))
    edit(
        slot,
        (f"sif <{inode}> {time} @{timestamp}" for inode in inodes for time in ("atime", "ctime")),
        timestamp,
    )


def make_immutable(slot: Ext4Slot, paths: Iterable[str], timestamp: int) -> None:
    """Set the immutable flag (``chattr +i``), which mke2fs does not copy.

    Args:
        slot: the file system.
        paths: absolute inside it.
        timestamp: seconds since the epoch.

    Raises:
        CommandError.
    """
    commands = []
    for path in paths:
        said = _run(["debugfs", "-R", f'stat "{path}"', slot.device]).stdout
        found = re.search(r"Flags: (0x[0-9a-f]+)", said)
        if found is None:
            raise UserError(f"debugfs does not find {path} in the new file system: {said[:200]}")
        commands.append(f'sif "{path}" flags {int(found[1], 16) | _IMMUTABLE:#x}')
    edit(slot, commands, timestamp)


def edit(slot: Ext4Slot, commands: Iterable[str], timestamp: int) -> None:
    """Run debugfs commands that write.

    Raises:
        CommandError: debugfs failed, or complained of a command (its exit status is 0 even then).
    """
    argv = ["debugfs", "-w", "-f", "/dev/stdin", slot.device]
    done = _run(argv, input_text="\n".join(commands) + "\n", env=_clock(timestamp))
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("debugfs ")]
    if complaints:
        raise CommandError(argv, done.status, "\n".join(complaints[-5:]))


def read_file(slot: Ext4Slot, path: str) -> str:
    """Text of a file in the file system; empty when it is not there."""
    return _run(["debugfs", "-R", f'cat "{path}"', slot.device]).stdout


@dataclass(frozen=True)
class Ext4Tree:
    """The files of an ext4 file system, read without a mount.

    Attributes:
        slot: where it is.
        complaints: what debugfs said of damage so far; it leaves out what it cannot read, and its status is 0.
    """

    slot: Ext4Slot
    complaints: list[str] = field(default_factory=list, compare=False)

    def require(self) -> None:
        """Look whether the file system can be opened.

        Raises:
            MissingProgramError, CommandError: it cannot.
        """
        asked = "stat /"
        if "Type: directory" not in self._ask(asked):
            raise CommandError(self._argv(asked), 0, "\n".join(self.complaints))

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in a folder, sorted; empty when there is no such folder."""
        found = _LISTED.findall(self._ask(f'ls -p "{folder or "/"}"'))
        return tuple(sorted(set(found) - {".", "..", "lost+found"}))

    def read(self, path: str) -> bytes | None:
        """A file's content; None when there is no such file. Links on the way are followed, a last one not.

        Raises:
            MissingProgramError, CommandError.
        """
        with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
            target = Path(folder, "content")
            self._ask(f'dump "{path}" {target}')
            return target.read_bytes() if target.exists() else None

    def readlink(self, path: str) -> str | None:
        """Where a symbolic link leads; None when it is none."""
        said = self._ask(f'stat "{path}"')
        if "Type: symlink" not in said:
            return None
        short = re.search(r'Fast link dest: "(.*)"', said)
        # A long one is a file's content.
        return short[1] if short else self._ask(f'cat "{path}"')

    def _ask(self, request: str) -> str:
        done = _run(self._argv(request))
        self.complaints.extend(
            line
            for line in done.stderr.splitlines()
            if not line.startswith("debugfs ") and not any(word in line for word in _OF_ABSENCE)
        )
        return done.stdout

    def _argv(self, request: str) -> list[str]:
        return ["debugfs", "-R", request, self.slot.device]


@dataclass(frozen=True)
class Usage:
    """How full a file system is, in bytes, and whether its journal has changes that are not in their places."""

    size: int
    used: int
    unreplayed: bool


def usage(slot: Ext4Slot) -> Usage:
    """How large an ext4 file system is, and how much of that is used.

    Raises:
        MissingProgramError, CommandError.
    """
    fields = superblock(slot)
    block, count = int(fields["Block size"]), int(fields["Block count"])
    return Usage(
        count * block,
        (count - int(fields["Free blocks"])) * block,
        "needs_recovery" in fields["Filesystem features"].split(),
    )


def superblock(slot: Ext4Slot) -> dict[str, str]:
    """What dumpe2fs says of a file system, by its own names ("Block count").

    Raises:
        MissingProgramError, CommandError.
    """
    said = _run(["dumpe2fs", "-h", slot.device]).stdout
    lines = (line.partition(":") for line in said.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}


def _used_inodes(slot: Ext4Slot) -> int:
    fields = superblock(slot)
    return int(fields["Inode count"]) - int(fields["Free inodes"])


def _clock(timestamp: int) -> Mapping[str, str]:
    # The first two are what e2fsprogs 1.47.0 (Debian 12) knows, the third what came with 1.47.1.
    names = ("E2FSPROGS_FAKE_TIME", "E2FSCK_TIME", "SOURCE_DATE_EPOCH")
    return dict.fromkeys(names, str(timestamp))
