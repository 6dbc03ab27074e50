"""An EBS snapshot of a disk, by the EBS direct APIs: blocks in parallel, none of them twice.

A block is noted as done when EBS has acknowledged it. Only what was on its way when a run was killed is sent
again, and EBS then stores the same bytes at the same place.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress
from bootc_build.publish.aws import CallRefusedError, Client, calls
from bootc_build.publish.blocks import BLOCK_BYTES, Block, BlockMap, read_block
from bootc_build.publish.state import State
from bootc_build.tools.sizes import GIB, in_words

# Minutes without a block after which EBS gives an unfinished snapshot up: time to go on the next day.
_TIMEOUT_MINUTES = 24 * 60
_GONE = ("ResourceNotFoundException", "InvalidSnapshot.NotFound")


def forget_what_is_gone(ec2: Client, state: State, progress: Progress) -> None:
    """Begin anew if the snapshot of an earlier run is not there any more, or was given up by EBS.

    Raises:
        UserError: AWS refused.
    """
    if state.snapshot is None:
        return
    try:
        with calls(f"looking for {state.snapshot} (ec2:DescribeSnapshots)"):
            [found] = ec2.describe_snapshots(SnapshotIds=[state.snapshot])["Snapshots"]
    except CallRefusedError as error:
        if error.code not in _GONE:
            raise
    else:
        if found["State"] != "error":
            return
    progress.step(f"{state.snapshot}, which an earlier run began, is gone; beginning a new one")
    state.forget_snapshot()


def start_snapshot(
    ebs: Client, state: State, blocks: BlockMap, description: str, tags: Mapping[str, str]
) -> str:
    """Begin a snapshot, or return the one that an earlier run began.

    Raises:
        UserError: AWS refused.
    """
    if state.snapshot is not None:
        return state.snapshot
    with calls("starting a snapshot (ebs:StartSnapshot)"):
        started = ebs.start_snapshot(
            VolumeSize=volume_gib(blocks.disk_bytes),
            Description=description,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Timeout=_TIMEOUT_MINUTES,
            # Killed before the answer was noted, the same call gives the same snapshot.
            ClientToken=f"{state.token}-{state.generation}",
        )
    snapshot = str(started["SnapshotId"])
    state.note(snapshot=snapshot)
    return snapshot


def volume_gib(disk_bytes: int) -> int:
    """Size of the volume that holds such a disk, in GiB."""
    return -(-disk_bytes // GIB)


def upload(
    ebs: Client, disk: Path, blocks: BlockMap, state: State, *, workers: int, progress: Progress
) -> None:
    """Send every block that is not noted as done.

    However it ends, what was on its way is waited for and noted.

    Raises:
        UserError: AWS refused a block for good, or the disk changed meanwhile.
    """
    left = [block for block in blocks.blocks if block.index not in state.blocks]
    done = blocks.upload_bytes - len(left) * BLOCK_BYTES
    resumed = f", {in_words(done)} are there already" if done else ""
    progress.step(f"Uploading {in_words(len(left) * BLOCK_BYTES)} to {state.snapshot}{resumed}")
    uploader = _Uploader(ebs, disk, state, left, total_bytes=blocks.upload_bytes, progress=progress)
    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                running = [pool.submit(uploader.work) for _ in range(workers)]
                for worker in as_completed(running):
                    worker.result()
            finally:
                uploader.stop.set()
    except CallRefusedError as error:
        if error.code in _GONE:
            state.forget_snapshot()
            error.remedy = "The unfinished snapshot is gone. Run it again: it begins a new one."
        raise
    finally:
        uploader.close()


def complete(ebs: Client, ec2: Client, blocks: BlockMap, state: State, progress: Progress) -> None:
    """Seal the snapshot and wait until it can be used.

    Raises:
        UserError: EBS has other blocks than these, or fails.
    """
    if not state.completed:
        progress.step(f"Completing {state.snapshot}")
        with calls(f"completing {state.snapshot} (ebs:CompleteSnapshot)"):
            ebs.complete_snapshot(
                SnapshotId=state.snapshot,
                ChangedBlocksCount=len(blocks.blocks),
                Checksum=blocks.checksum,
                ChecksumAlgorithm="SHA256",
                ChecksumAggregationMethod="LINEAR",
            )
        state.note(completed=True)
    with calls(f"waiting for {state.snapshot}"):
        waiter = ec2.get_waiter("snapshot_completed")
        waiter.wait(SnapshotIds=[state.snapshot], WaiterConfig={"Delay": 5, "MaxAttempts": 720})


class _Uploader:
    """What the workers share; each takes the next block until there is none or it shall stop."""

    def __init__(
        self,
        ebs: Client,
        disk: Path,
        state: State,
        left: list[Block],
        *,
        total_bytes: int,
        progress: Progress,
    ) -> None:
        self.stop = threading.Event()
        self._ebs = ebs
        self._disk = disk
        self._state = state
        self._left: Iterator[Block] = iter(left)
        self._lock = threading.Lock()
        self._total_bytes = total_bytes
        self._progress = progress
        self._descriptor = os.open(disk, os.O_RDONLY)

    def close(self) -> None:
        """Nobody works any more."""
        os.close(self._descriptor)

    def work(self) -> None:
        """Send blocks."""
        try:
            while not self.stop.is_set():
                with self._lock:
                    block = next(self._left, None)
                if block is None:
                    return
                self._send(block)
        except BaseException:
            self.stop.set()
            raise

    def _send(self, block: Block) -> None:
        data = read_block(self._descriptor, block.index)
        if hashlib.sha256(data).digest() != block.digest:
            raise UserError(
                f"'{self._disk}' changed while it was uploaded (block {block.index}).",
                "Let nothing write to it, and run this again: what is uploaded of the old one stays apart.",
            )
        with calls(f"uploading block {block.index} (ebs:PutSnapshotBlock)"):
            self._ebs.put_snapshot_block(
                SnapshotId=self._state.snapshot,
                BlockIndex=block.index,
                BlockData=data,
                DataLength=BLOCK_BYTES,
                Checksum=block.checksum,
                ChecksumAlgorithm="SHA256",
            )
        self._state.note(block=block.index)
        with self._lock:
            done = len(self._state.blocks) * BLOCK_BYTES
            self._progress.bytes_done(done, self._total_bytes)
