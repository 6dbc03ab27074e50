"""e2fsprogs: ext4 file systems inside a disk file, without a loop device or a mount.

What they write is not synced: that is for whoever gives the disk file its name.
"""

import ctypes
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, run

BLOCK = 4096
# Each of the programs syncs the file that it was given, even one that only reads it.
_run = partial(run, synced=False)
# Whatever this machine's configuration says.
_FEATURES = (
    "has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum,verity"
)
# e2fsck's exit status when it has written something, as it is meant to.
_CORRECTED = 1
# Its answer to itself after each damage.
_MENDED = "? yes"
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


def make_empty_ext4(  # noqa: D417 - the rest speaks for itself
    slot: Ext4Slot, *, uuid: UUID, hash_seed: UUID, label: str, timestamp: int
) -> None:
    """Make a file system without files.

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
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", "256", "-m", "1"]
    argv += ["-O", f"none,{_FEATURES}", "-U", str(uuid), "-L", label, "-E", ",".join(extended)]
    _run([*argv, str(slot.disk), str(slot.size // BLOCK)], env=_clock(timestamp))


def index_directories(slot: Ext4Slot, timestamp: int) -> None:
    """Check a new file system, all but contents, and give its directories their indexes.

    Raises:
        MissingProgramError, CommandError: also when it is not whole.
    """
    argv = ["e2fsck", "-f", "-y", "-D", slot.device]
    done = _run(argv, check=False, env=_clock(timestamp))
    if done.status not in (0, _CORRECTED) or _MENDED in done.stdout:
        raise CommandError(argv, done.status, done.stdout + done.stderr)


@cache
def crc32c() -> Callable[[int, bytes, int], int]:
    """What ext4 sums its metadata up with: start value, bytes and how many of them -> 32 bits.

    Raises:
        UserError: libext2fs is not there.
    """
    try:
        function = ctypes.CDLL("libext2fs.so.2").ext2fs_crc32c_le
    except OSError as error:
        raise UserError(
            f"libext2fs cannot be used: {error}", "Install it with: apt-get install e2fsprogs"
        ) from error
    function.argtypes = (ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint32
    return function


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


def _clock(timestamp: int) -> Mapping[str, str]:
    # The first two are what e2fsprogs 1.47.0 (Debian 12) knows, the third what came with 1.47.1.
    names = ("E2FSPROGS_FAKE_TIME", "E2FSCK_TIME", "SOURCE_DATE_EPOCH")
    return dict.fromkeys(names, str(timestamp))
