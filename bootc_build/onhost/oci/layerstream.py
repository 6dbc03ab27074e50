"""A layer's blob as a stream of tar bytes: decompressed and hashed on the way, in bounded memory.

Reading, hashing and decompressing release the interpreter's lock, so they run in a thread of their own beside
whoever consumes the tar: on two cores the importer waits for neither.
"""

import hashlib
import queue
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Self

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import running

_CHUNK: Final = 256 * 1024
_QUEUED_CHUNKS: Final = 16
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES: Final = 4


def _is_skippable(start: bytes) -> bool:
    """Whether data starts with a frame of zstd that holds something else (zstd:chunked, for one, has such)."""
    return 0x50 <= start[0] <= 0x5F and start[1:4] == b"\x2a\x4d\x18" if start else False  # noqa: PLR2004 - RFC 8878


class DamagedLayerError(UserError):
    """What arrived is not what the manifest or the configuration promised."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}.",
            "Nothing of it was kept. Try again; if it stays so, push the image again.",
        )


class WrongContentError(DamagedLayerError):
    """The blob is the right one, but not the layer that the configuration promised: the image was made so."""


class _Stopped(Exception):  # noqa: N818 - a signal between two threads, not an error
    """The consumer left early."""


class LayerStream:
    """The tar stream of a blob; a context manager.

    Args:
        read: gives at most so many bytes of the blob, empty at the end.
        what: names the layer in errors.
        on_bytes: hears, in the consumer's thread, how many bytes of the blob have arrived.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        what: str,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self.blob_bytes = self.tar_bytes = 0
        self._on_bytes = on_bytes
        self._read = read
        self._what = what
        self._blob = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_QUEUED_CHUNKS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="layer", daemon=True)
        self._resources = ExitStack()
        self._zstd: subprocess.Popen[bytes] | None = None
        self._done = False

    def __enter__(self) -> Self:
        self._first = self._fetch()
        while len(self._first) < _MAGIC_BYTES and (more := self._fetch()):
            self._first += more
        if self._first.startswith(_ZSTD_MAGIC) or _is_skippable(self._first):
            # Started here and not in the thread: the kernel ties a child's end to the thread that made it.
            self._zstd = self._resources.enter_context(
                running(["zstd", "-dc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            # Make room, so that a feeder that waits to put something sees that it is over.
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.02)
        self._resources.close()

    def next_chunk(self) -> bytes:
        """The next bytes of the tar; empty at the end.

        Raises:
            UserError: the blob cannot be read or decompressed.
        """
        if self._done:
            return b""
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._done = True
            raise item
        self._done = not item
        self.tar_bytes += len(item)
        if self._on_bytes is not None:
            self._on_bytes(self.blob_bytes)
        return item

    def verify(self, digest: str, diff_id: str) -> None:
        """Read to the end and compare.

        Args:
            digest: of the blob as it was sent.
            diff_id: of the tar.

        Raises:
            DamagedLayerError: one of the two differs.
        """
        while self.next_chunk():
            pass
        expected = [("diff_id", diff_id, self._tar)]
        if self._tar is not self._blob:
            # A stream that is no compressed one is the tar itself, so the diff_id, which the configuration
            # vouches for, says all. containers-storage sends such for what its manifest has compressed.
            expected.insert(0, ("digest", digest, self._blob))
        for name, wanted, found in expected:
            actual = f"sha256:{found.hexdigest()}"
            if actual != wanted:
                # Behind a digest that is right, or that is the tar's own, another try brings the same.
                right_blob = name == "diff_id" and digest == f"sha256:{self._blob.hexdigest()}"
                kind = WrongContentError if right_blob else DamagedLayerError
                raise kind(f"{self._what} has the {name} {actual}, but should have {wanted}")

    def _fetch(self) -> bytes:
        data = self._read(_CHUNK)
        self._blob.update(data)
        self.blob_bytes += len(data)
        return data

    def _raw(self) -> Iterator[bytes]:
        data = self._first
        while data:
            yield data
            data = self._fetch()

    def _feed(self) -> None:
        try:
            for chunk in self._decompressed():
                if self._tar is not self._blob:
                    self._tar.update(chunk)
                self._put(chunk)
            self._put(b"")
        except _Stopped:
            pass
        except BaseException as exc:  # noqa: BLE001 - raised again by the consumer
            self._put_last(exc)

    def _put(self, item: bytes) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=1)
            except queue.Full:
                continue
            return
        raise _Stopped

    def _put_last(self, exc: BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(exc, timeout=1)
            except queue.Full:
                continue
            return

    def _decompressed(self) -> Iterator[bytes]:
        # By what it is, not by what the manifest calls it: containers-storage sends uncompressed what its
        # manifest calls gzip.
        if self._first.startswith(_GZIP_MAGIC):
            return self._gunzip()
        if self._zstd is not None:
            return self._unzstd(self._zstd)
        self._tar = self._blob  # one and the same: hash it once
        return self._raw()

    def _gunzip(self) -> Iterator[bytes]:
        # A blob may be several gzip members after one another (pigz, eStargz).
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        started = False
        try:
            for raw in self._raw():
                data = raw
                while data:
                    if inflater.eof:
                        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                        started = False
                    started = True
                    chunk = inflater.decompress(data, _CHUNK)
                    data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                    if chunk:
                        yield chunk
        except zlib.error as exc:
            raise DamagedLayerError(f"{self._what} is not proper gzip ({exc})") from exc
        if started and not inflater.eof:
            raise DamagedLayerError(f"{self._what} ends in the middle")

    def _unzstd(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        failures: list[BaseException] = []

        def push() -> None:
            assert process.stdin is not None  # noqa: S101 - asked for above
            try:
                with process.stdin as sink:
                    for data in self._raw():
                        sink.write(data)
            except BaseException as exc:  # noqa: BLE001 - raised by the reader below
                failures.append(exc)

        pusher = threading.Thread(target=push, name="zstd", daemon=True)
        pusher.start()
        while chunk := process.stdout.read1(_CHUNK):  # type: ignore[attr-defined]
            yield chunk
        pusher.join()
        if process.wait() != 0:
            raise DamagedLayerError(f"{self._what} is not proper zstd")
        if failures:
            raise failures[0]
