"""A raw disk as the blocks that EBS stores: 512 KiB each, those of zeros alone left out.

Source: the EBS direct APIs' reference (PutSnapshotBlock, CompleteSnapshot and its linear checksum).
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bootc_build.disk.formats import data_extents

BLOCK_BYTES = 512 * 1024
_ZEROS = bytes(BLOCK_BYTES)


@dataclass(frozen=True)
class Block:
    """One block that is not zero: its number on the disk, from 0, and the SHA-256 of its bytes."""

    index: int
    digest: bytes

    @property
    def checksum(self) -> str:
        """The digest as EBS takes it."""
        return base64.b64encode(self.digest).decode()


@dataclass(frozen=True)
class BlockMap:
    """What is to be uploaded.

    Attributes:
        disk_bytes: size of the disk.
        blocks: in ascending order.
        file_sha256: of the whole file, in hex; empty where nobody asked.
    """

    disk_bytes: int
    blocks: tuple[Block, ...]
    file_sha256: str = ""

    @property
    def upload_bytes(self) -> int:
        """How much goes over the line."""
        return len(self.blocks) * BLOCK_BYTES

    @property
    def checksum(self) -> str:
        """The linear checksum: SHA-256 of all blocks' digests in ascending order, in base64."""
        total = hashlib.sha256()
        for block in self.blocks:
            total.update(block.digest)
        return base64.b64encode(total.digest()).decode()


def map_blocks(
    disk: Path,
    on_bytes: Callable[[int], None] = lambda _bytes: None,
    *,
    hash_file: bool = False,
) -> BlockMap:
    """Read a disk and find its blocks.

    Args:
        disk: a raw disk.
        on_bytes: is told how far the reading is.
        hash_file: make the checksum of the whole file, too.

    Raises:
        OSError.
    """
    blocks = []
    with disk.open("rb") as file, _FileHash() as whole:
        size = os.fstat(file.fileno()).st_size
        for index in _candidates(file.fileno(), size):
            data = read_block(file.fileno(), index)
            if hash_file:
                whole.add(index * BLOCK_BYTES, data[: size - index * BLOCK_BYTES])
            if data != _ZEROS:
                blocks.append(Block(index, hashlib.sha256(data).digest()))
            on_bytes(index * BLOCK_BYTES)
        return BlockMap(size, tuple(blocks), whole.of(size) if hash_file else "")


class _FileHash:
    """SHA-256 of a file whose data are handed over in ascending order, computed beside what else is done with them."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._end = 0
        # One thread, so that nothing overtakes.
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, start: int, data: bytes) -> None:
        """Take data; from where the last ones ended to where they start is a hole."""
        # No more than one piece waits, so that they do not fill the memory.
        self._wait()
        self._last = self._pool.submit(self._update, start - self._end, data)
        self._end = start + len(data)

    def of(self, size: int) -> str:
        """The checksum of a file of this size, in hex."""
        self.add(size, b"")
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _update(self, zeros: int, data: bytes) -> None:
        for begin in range(0, zeros, BLOCK_BYTES):
            self._digest.update(_ZEROS[: zeros - begin])
        self._digest.update(data)


def read_block(descriptor: int, index: int) -> bytes:
    """One block of an open disk; the last one is filled up with zeros.

    Raises:
        OSError.
    """
    data = b""
    while len(data) < BLOCK_BYTES:
        more = os.pread(descriptor, BLOCK_BYTES - len(data), index * BLOCK_BYTES + len(data))
        if not more:
            return data.ljust(BLOCK_BYTES, b"\0")
        data += more
    return data


def _candidates(descriptor: int, size: int) -> Iterator[int]:
    """Blocks that are not holes altogether."""
    following = 0
    for start, end in data_extents(descriptor, size):
        first, following_end = start // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        yield from range(max(first, following), following_end)
        following = max(following, following_end)
