"""Read a layer out of storage for an import: its tar, hashed on the way, and its files where they lie.

Storage has a layer's files apart from what is between them in the tar. So the reader here takes for tar only what is
between, and gives of a file a view of the memory that it was read to. Each byte is read once: what the digest of the
tar is made of is what becomes an object.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, cast

from bootc_build.onhost.oci.layerstream import DamagedLayerError
from bootc_build.onhost.oci.tarstream import TarEntry, TarReader
from bootc_build.onhost.ostree.importer import Layer
from bootc_build.tools.containers_storage import PIECE_BYTES, StoredFile

# How many bytes are read before the progress is told.
_COUNTED: Final = 1 << 20


class Window:
    """The part of a stream that is in memory; hashes what goes through it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._memory = memoryview(bytearray(PIECE_BYTES))
        self._used = 0

    def place(self, size: int) -> memoryview:
        """Room for the next bytes of the stream, at most `PIECE_BYTES`; what was given before has been filled.

        What is there stays until room is asked for again.
        """
        if self._used + size > PIECE_BYTES:
            self._turn()
        start = self._used
        self._used += size
        return self._memory[start : self._used]

    def digest(self) -> str:
        """Of the whole stream, as ``sha256:…``; nothing may come after."""
        self._turn()
        return f"sha256:{self._digest.hexdigest()}"

    def _turn(self) -> None:
        """Begin at the front again."""
        self._digest.update(self._memory[: self._used])
        self._used = 0


class StoredTar(TarReader):
    """The tar of a layer in storage.

    Args:
        parts: what `containers_storage.tar_parts` gives.
        window: where the stream goes through.
        count: hears how many bytes were read since its last call.
    """

    def __init__(
        self,
        parts: Iterator[bytes | StoredFile],
        window: Window,
        count: Callable[[int], None],
    ) -> None:
        super().__init__(self._next)
        self._parts = parts
        self._window = window
        self._count = count
        self._ahead: StoredFile | None = None
        self._passing: Iterator[memoryview] | None = None
        self._uncounted = 0
        self.tar_bytes = 0

    def read(self, entry: TarEntry) -> bytes:
        """The whole content of the current entry, to be done with before anything else is read."""
        file = self._file(entry) if entry.stored <= PIECE_BYTES else None
        if file is None:
            return super().read(entry)
        [view] = self._views(file)
        self._unread -= entry.stored
        # To whoever hashes, compares and writes it, it is that.
        return cast("bytes", view)

    def chunks(self, entry: TarEntry) -> Iterator[bytes]:
        """The content of the current entry in pieces, each to be done with before the next."""
        file = self._file(entry)
        if file is None:
            yield from super().chunks(entry)
            return
        for view in self._views(file):
            self._unread -= len(view)
            yield cast("bytes", view)

    def verify(self, layer: Layer) -> None:
        """Read to the end and compare.

        Raises:
            DamagedLayerError: it is another layer.
        """
        while self._next():
            pass
        self._count(self._uncounted)
        actual = self._window.digest()
        if actual != layer.diff_id:
            raise DamagedLayerError(
                f"{layer.name} has the diff_id {actual}, but should have {layer.diff_id}"
            )

    def _file(self, entry: TarEntry) -> StoredFile | None:
        """The file that has the current entry's content, and no more, where that comes next."""
        if entry.sparse is not None or self._passing or self._position != len(self._buffer):
            return None
        part = self._part()
        if isinstance(part, StoredFile):
            if part.size == entry.stored:
                return part
            self._ahead = part
        else:
            self._buffer, self._position = part, 0
        return None

    def _next(self) -> bytes:
        """More of the stream, be it of a file or between files."""
        for view in self._passing or ():
            return bytes(view)
        self._passing = None
        part = self._part()
        if isinstance(part, StoredFile):
            self._passing = self._views(part)
            return self._next()
        return part

    def _part(self) -> bytes | StoredFile:
        part = self._ahead or next(self._parts, b"")
        self._ahead = None
        if not isinstance(part, StoredFile):
            for start in range(0, len(part), PIECE_BYTES):
                piece = part[start : start + PIECE_BYTES]
                self._window.place(len(piece))[:] = piece
            self._have_read(len(part))
        return part

    def _views(self, file: StoredFile) -> Iterator[memoryview]:
        for view in file.read(self._window.place):
            self._have_read(len(view))
            yield view

    def _have_read(self, size: int) -> None:
        self.tar_bytes += size
        self._uncounted += size
        if self._uncounted >= _COUNTED:
            self._count(self._uncounted)
            self._uncounted = 0
