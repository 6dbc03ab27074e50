"""Make a layer's file objects on another processor than the one that reads the layer.

Half of the time that an import takes goes into hashing files and making them, and one interpreter does one thing at a
time. So a process of its own does that half. `ObjectsBeside` tells it of the files, and gives in place of a checksum
that is not known yet a number, which becomes the checksum when the directory is written that has the file.

The stream goes through memory that both have, in batches: the reader fills one while the writer takes files out of
others, and a thread hashes them for the digest of the whole. Behind a batch's bytes is a table of the files in it
(`_RECORD`). The writer puts its answer in place of the table: the checksums of the files that it has finished, or
what went wrong, pickled. Only numbers and lengths go through the pipes (`_TOKEN`), few enough that neither process
ever waits for the other to read.
"""

import mmap
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Final, Self, cast

import bootc_build
from bootc_build.disk.layer_cache.layer_objects import LayerObjects
from bootc_build.disk.layer_cache.stored_layer import Window
from bootc_build.onhost.ostree.tree import Directory
from bootc_build.onhost.process import PIPE, CommandError, running
from bootc_build.tools.containers_storage import PIECE_BYTES

# Many, because there are stretches of small files, which take the writer longer, and of large ones.
_BATCHES: Final = 16
# Kind, owner, group, mode, where its bytes begin, how many they are.
_RECORD: Final = struct.Struct("<BIIIII")
_FILE, _BEGIN, _PIECE, _END = range(4)
_RECORDS: Final = 4096
_CHECKSUM: Final = 32
_TABLE_BYTES: Final = _RECORDS * max(_RECORD.size, _CHECKSUM)
_BATCH_BYTES: Final = PIECE_BYTES + _TABLE_BYTES
# Whether it is an error, number of the batch, length of the table or the answer.
_TOKEN: Final = struct.Struct("<?BI")
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from bootc_build.disk.layer_cache.object_writer import main; main(*sys.argv[2:])"
)


class SharedWindow(Window):
    """A stream's part in memory that another process sees, too.

    Args:
        memory: of so many batches.
        on_full: hears which batch is done with and how long its table is; ends when the next batch is free.
    """

    def __init__(self, memory: memoryview, on_full: Callable[[int, int], None]) -> None:
        super().__init__()
        self._all = memory
        self._on_full = on_full
        self._pool = ThreadPoolExecutor(1)
        self._hashed: list[Future[None] | None] = [None] * _BATCHES
        self._batch = self._records = 0
        self._memory = memory[:_BATCH_BYTES]
        self._placed: memoryview | None = None

    def place(self, size: int) -> memoryview:
        """As `Window` has it."""
        # Room in the table, too: for the beginning of a large file, and for its first piece.
        if self._records > _RECORDS - 2:
            self._turn()
        self._placed = super().place(size)
        return self._placed

    def is_placed(self, data: object) -> bool:
        """Whether these are the last bytes that came."""
        return data is self._placed

    def note(self, kind: int, uid: int = 0, gid: int = 0, mode: int = 0, size: int = 0) -> None:
        """Have the writer do something with the last bytes that came."""
        if self._records == _RECORDS:
            self._turn()
        at = PIECE_BYTES + self._records * _RECORD.size
        _RECORD.pack_into(self._memory, at, kind, uid, gid, mode, self._used - size, size)
        self._records += 1

    def flush(self) -> None:
        """Have the writer do what is noted."""
        if self._records:
            self._turn()

    def close(self) -> None:
        """End the thread, and let go of the memory."""
        self._pool.shutdown()
        self._all = self._memory = memoryview(b"")
        self._placed = None

    def digest(self) -> str:
        """As `Window` has it."""
        self._turn()
        self._pool.shutdown()
        return f"sha256:{self._digest.hexdigest()}"

    def _turn(self) -> None:
        filled = self._memory[: self._used]
        self._hashed[self._batch] = self._pool.submit(self._digest.update, filled)
        self._on_full(self._batch, self._records * _RECORD.size)
        self._batch = (self._batch + 1) % _BATCHES
        if (hashed := self._hashed[self._batch]) is not None:
            hashed.result()
        self._memory = self._all[self._batch * _BATCH_BYTES :][:_BATCH_BYTES]
        self._used = self._records = 0


class ObjectsBeside(LayerObjects):
    """As `LayerObjects`, but that ``write_file`` and ``write_large_file`` give what stands for a checksum.

    Args:
        folder: exists, and is empty.

    Attributes:
        window: where the files' contents have to come through.
    """

    window: SharedWindow

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._path = folder
        self._checksums: list[str] = []
        self._promised = self._unanswered = 0

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.push(super().__exit__)
            # Beforehand, so that the two never make one at the same time.
            for number in range(256):
                os.mkdir(f"{number:02x}", 0o755, dir_fd=self._folder)
            memory = os.memfd_create("layer")
            opened.callback(os.close, memory)
            os.ftruncate(memory, _BATCHES * _BATCH_BYTES)
            self._memory = memoryview(mmap.mmap(memory, 0))
            program = self._program(memory)
            self._process = opened.enter_context(
                running(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=(memory,))
            )
            self.window = SharedWindow(self._memory, self._hand_over)
            opened.callback(self.window.close)
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._resources.close()
        del self._memory

    def _program(self, memory: int) -> tuple[str, ...]:
        package = Path(bootc_build.__file__).parent
        # Apart from whatever else the environment or the working directory has for Python.
        return (sys.executable, "-ISc", _PROGRAM, str(package.parent), str(self._path), str(memory))

    def write_file(
        self, uid: int, gid: int, mode: int, xattrs: Mapping[bytes, bytes], data: bytes
    ) -> str:
        """A regular file in memory."""
        # Few have attributes.
        if xattrs or not self.window.is_placed(data):
            return super().write_file(uid, gid, mode, xattrs, data)
        self.window.note(_FILE, uid, gid, mode, len(data))
        return self._promise()

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
        """A regular file piece by piece."""
        first = next(chunks)
        if xattrs or not self.window.is_placed(first):
            pieces = chain((first,), chunks)
            return super().write_large_file(uid, gid, mode, xattrs, size=size, chunks=pieces)
        self.window.note(_BEGIN, uid, gid, mode)
        self.window.note(_PIECE, size=len(first))
        for chunk in chunks:
            self.window.note(_PIECE, size=len(chunk))
        self.window.note(_END)
        return self._promise()

    def write_directory(self, directory: Directory) -> str:
        """The names in a directory."""
        if len(self._checksums) < self._promised:
            self._wait()
        files = {
            name: content if len(content) == 2 * _CHECKSUM else self._checksums[int(content)]
            for name, content in directory.files.items()
        }
        return super().write_directory(Directory(files, directory.dirs))

    def has_file(self, checksum: str) -> bool:
        """Whether there is such a file object."""
        self._wait()
        return super().has_file(checksum)

    def _promise(self) -> str:
        self._promised += 1
        return str(self._promised - 1)

    def _hand_over(self, batch: int, length: int) -> None:
        """Tell the writer of a batch, and wait until the next is free."""
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            os.write(pipe.fileno(), _TOKEN.pack(False, batch, length))
        except BrokenPipeError:
            # What it said before is why.
            while True:
                self._take_answer()
        self._unanswered += 1
        if self._unanswered == _BATCHES:
            self._take_answer()

    def _wait(self) -> None:
        """Until every file is written."""
        self.window.flush()
        while self._unanswered:
            self._take_answer()

    def _take_answer(self) -> None:
        token = cast("IO[bytes]", self._process.stdout).read(_TOKEN.size)
        if len(token) < _TOKEN.size:
            _out, said = self._process.communicate()
            raise CommandError(
                (sys.executable, __name__), self._process.returncode, said.decode(errors="replace")
            )
        failed, batch, length = _TOKEN.unpack(token)
        answer = _table(self._memory, batch, length)
        if failed:
            raise pickle.loads(answer)  # noqa: S301 - it is ours
        self._unanswered -= 1
        self._checksums += [
            answer[start : start + _CHECKSUM].hex() for start in range(0, length, _CHECKSUM)
        ]


def main(folder: str, memory: str) -> None:
    """Write the files of the batches that standard input names."""
    # The other one gets it too, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with LayerObjects(Path(folder)) as store:
        _Writer(store, memoryview(mmap.mmap(int(memory), 0))).run()


# What to do, owner, group, mode, bytes.
_Record = tuple[int, int, int, int, bytes]


class _Writer:
    """The process at the other end."""

    def __init__(self, store: LayerObjects, memory: memoryview) -> None:
        self._store = store
        self._memory = memory
        self._batch = 0
        self._checksums: list[str] = []

    def run(self) -> None:
        """Write files until no more come, or one cannot be written."""
        try:
            records = self._records()
            for kind, uid, gid, mode, data in records:
                if kind == _FILE:
                    checksum = self._store.write_file(uid, gid, mode, {}, data)
                else:
                    pieces = _pieces(records)
                    checksum = self._store.write_large_file(
                        uid, gid, mode, {}, size=0, chunks=pieces
                    )
                self._checksums.append(checksum)
        except Exception as error:  # noqa: BLE001 - raised again by the other one
            self._answer(pickle.dumps(error), failed=True)

    def _records(self) -> Iterator[_Record]:
        while token := os.read(0, _TOKEN.size):
            _failed, self._batch, length = _TOKEN.unpack(token)
            first = self._batch * _BATCH_BYTES
            # A copy, since a generator's consumer may still be at the last when the answer comes in its place.
            for kind, uid, gid, mode, start, size in _RECORD.iter_unpack(
                bytes(_table(self._memory, self._batch, length))
            ):
                data = self._memory[first + start : first + start + size]
                yield kind, uid, gid, mode, cast("bytes", data)
            self._answer(b"".join(map(bytes.fromhex, self._checksums)))
            self._checksums = []

    def _answer(self, answer: bytes, *, failed: bool = False) -> None:
        _table(self._memory, self._batch, len(answer))[:] = answer
        os.write(1, _TOKEN.pack(failed, self._batch, len(answer)))


def _table(memory: memoryview, batch: int, length: int) -> memoryview:
    start = batch * _BATCH_BYTES + PIECE_BYTES
    return memory[start : start + length]


def _pieces(records: Iterator[_Record]) -> Iterator[bytes]:
    for kind, _uid, _gid, _mode, data in records:
        if kind == _END:
            return
        yield data
