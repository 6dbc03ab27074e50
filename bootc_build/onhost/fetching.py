"""Fetch the layers of an image: several at a time, each until it is there, and none that is there already.

A registry limits a connection more often than the network does, so up to `_PARALLEL` skopeo proxies fetch side by
side, each with a thread that imports in a transaction of its own. A layer that is complete has its ref and stays,
whatever becomes of the others. What hardly moves or breaks is begun again with a new proxy (`oci.retry`); the
first error that no other try can mend ends the rest.

Only the thread that called hears of progress and raises; a signal that arrives there ends the proxies, and with
them the threads.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci import retry
from bootc_build.onhost.oci.fetch_errors import TransientFetchError
from bootc_build.onhost.oci.imageproxy import OpenedImage
from bootc_build.onhost.oci.layerstream import DamagedLayerError, LayerStream, WrongContentError
from bootc_build.onhost.oci.layout import LayoutImage, open_source
from bootc_build.onhost.oci.manifest import Descriptor
from bootc_build.onhost.oci.policy import asks_nothing, find_policy
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.importer import Layer
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import LayerTransfer, Progress, Transfer

Source = OpenedImage | LayoutImage
Write = Callable[[Repo, LayerStream, Layer], str]

_PARALLEL: Final = 4
# Damage on the way is rare; what comes damaged three times is damaged at its source.
_DAMAGED_TRIES: Final = 3
_WAKE_SECONDS: Final = 0.5


@dataclass(frozen=True)
class MissingLayer:
    """A layer that has to be fetched, and what makes a commit and a ref of its stream."""

    layer: Layer
    descriptor: Descriptor
    write: Write


@dataclass
class Tally:
    """What has arrived so far; knows how to say it."""

    image: str
    manifest_digest: str
    layers_cached: int
    bytes_cached: int
    layers_total: int
    bytes_total: int
    layers_done: int = 0
    arrived: dict[int, int] = field(default_factory=dict)
    running: dict[int, MissingLayer] = field(default_factory=dict)

    def state(self) -> Transfer:
        """The whole of it now."""
        return Transfer(
            image=self.image,
            manifest_digest=self.manifest_digest,
            layers_cached=self.layers_cached,
            layers_done=self.layers_done,
            layers_total=self.layers_total,
            bytes_cached=self.bytes_cached,
            bytes_done=sum(self.arrived.values()),
            bytes_total=self.bytes_total,
            running=tuple(
                LayerTransfer(
                    missing.layer.digest, number, self.arrived[number], missing.descriptor.size
                )
                for number, missing in sorted(self.running.items())
            ),
        )


_Event = Callable[[Tally, Progress], None]


class _Ended(Exception):  # noqa: N818 - a signal between threads, not an error
    """Another thread failed, or the caller left."""


class _Connection:
    """One source that is opened when it is needed, and again after it was dropped."""

    def __init__(self, image: ImageReference, lent: Source | None = None) -> None:
        self._image = image
        self._opened = self.lent = lent
        self._context = ExitStack()

    def source(self) -> Source:
        if self._opened is None:
            self._opened = self._context.enter_context(open_source(self._image))
        return self._opened

    def drop(self) -> None:
        self.abort()
        self.close()

    def close(self) -> None:
        self._opened = self.lent = None
        self._context.close()

    def abort(self) -> None:
        opened = self._opened
        if opened is not None:
            opened.abort()


class LayerFetcher:
    """Fetches layers of one image.

    Args:
        repo: where to.
        image: where from.
        opened: the image, open already: the first connection.
        manifest_digest: the image's; further connections ask for exactly this one.
        progress: hears of everything, in the caller's thread.
        tally: what is counted.
    """

    def __init__(
        self,
        repo: Repo,
        image: ImageReference,
        opened: Source,
        manifest_digest: str,
        *,
        progress: Progress,
        tally: Tally,
    ) -> None:
        self._repo = repo
        self._opened: Source | None = opened
        self._progress = progress
        self._tally = tally
        self._again = pinned(image, manifest_digest)
        # Other transports than a registry unpack or lock something for each reader.
        self._parallel = _PARALLEL if image.transport == "registry" else 1
        self._stop = threading.Event()

    def fetch(self, missing: Sequence[MissingLayer]) -> dict[str, str]:
        """Fetch layers; their commits by blob digest.

        Raises:
            UserError: one of them cannot be had; those that are complete stay.
        """
        commits: dict[str, str] = {}
        self._stop = threading.Event()
        first = _Connection(self._again, self._opened)
        connections = [first]
        connections += [_Connection(self._again) for _ in missing[1 : self._parallel]]
        if len(connections) == 1:
            with _closing(first):
                for layer in missing:
                    digest = layer.layer.digest
                    commits[digest] = self._fetch_one(self._repo, first, layer, self._hear)
            self._opened = first.lent
            return commits
        for event in self._events(missing, connections):
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, tuple):
                digest, commit = event
                commits[digest] = commit
            else:
                event(self._tally, self._progress)
        self._opened = first.lent
        return commits

    def _hear(self, event: _Event) -> None:
        event(self._tally, self._progress)

    def _events(
        self, missing: Sequence[MissingLayer], links: Sequence[_Connection]
    ) -> Iterator[BaseException | tuple[str, str] | _Event]:
        """What happens in the threads, as it happens; leaving early ends them."""
        work: queue.SimpleQueue[MissingLayer] = queue.SimpleQueue()
        for layer in missing:
            work.put(layer)
        events: queue.SimpleQueue[BaseException | tuple[str, str] | _Event | None]
        events = queue.SimpleQueue()
        threads = [
            threading.Thread(
                target=self._work, args=(work, events, link), name=f"fetch-{n}", daemon=True
            )
            for n, link in enumerate(links)
        ]
        try:
            for thread in threads:
                thread.start()
            ended = 0
            while ended < len(threads):
                event = events.get()
                if event is None:
                    ended += 1
                else:
                    yield event
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads):
                # Again and again: a thread may just be opening its next source.
                for link in links:
                    link.abort()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join(_WAKE_SECONDS / len(threads))

    def _work(
        self,
        work: queue.SimpleQueue[MissingLayer],
        events: queue.SimpleQueue[BaseException | tuple[str, str] | _Event | None],
        connection: _Connection,
    ) -> None:
        """Fetch one layer after the other until none is left or something failed."""
        try:
            with _closing(connection):
                repo = self._repo.another()
                while not self._stop.is_set():
                    missing = work.get_nowait()
                    commit = self._fetch_one(repo, connection, missing, events.put)
                    events.put((missing.layer.digest, commit))
        except (queue.Empty, _Ended):
            pass
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            self._stop.set()
            events.put(exc)
        finally:
            events.put(None)

    def _fetch_one(
        self,
        repo: Repo,
        connection: _Connection,
        missing: MissingLayer,
        emit: Callable[[_Event], None],
    ) -> str:
        number = missing.layer.number

        def attempt() -> str:
            if self._stop.is_set():
                raise _Ended
            try:
                with (
                    connection.source().blob(missing.descriptor, missing.layer.diff_id) as blob,
                    LayerStream(
                        blob.read,
                        missing.layer.name,
                        lambda done: emit(partial(_moved, number, done)),
                    ) as stream,
                ):
                    return missing.write(repo, stream, missing.layer)
            except UserError:
                # Half an answer may still be under way on it: the next try gets a new one.
                connection.drop()
                raise

        emit(partial(_started, missing))
        commit = retry.retrying(
            attempt,
            retry.BACKOFF,
            is_transient=self._is_transient,
            on_wait=lambda text: emit(partial(_waits, text)),
            sleep=self._stop.wait,
        )
        emit(partial(_arrived, missing))
        return commit

    def _is_transient(self, error: UserError, failed: int) -> bool:
        if self._stop.is_set():
            return False
        if isinstance(error, WrongContentError):
            return False
        remote = self._parallel > 1
        if isinstance(error, DamagedLayerError) or "corrupted blob" in error.fact:
            return remote and failed < _DAMAGED_TRIES
        return isinstance(error, TransientFetchError)


def _started(missing: MissingLayer, tally: Tally, progress: Progress) -> None:
    number = missing.layer.number
    tally.running[number] = missing
    tally.arrived.setdefault(number, 0)
    progress.step(f"Fetching layer {number} of {missing.layer.total}")
    progress.transfer(tally.state())


def _moved(number: int, done: int, tally: Tally, progress: Progress) -> None:
    # After a broken try a layer begins anew; what was told once is not taken back.
    if done > tally.arrived[number]:
        tally.arrived[number] = min(done, tally.running[number].descriptor.size)
        progress.transfer(tally.state())


def _waits(text: str, _tally: Tally, progress: Progress) -> None:
    progress.step(text)


def _arrived(missing: MissingLayer, tally: Tally, progress: Progress) -> None:
    number = missing.layer.number
    tally.arrived[number] = missing.descriptor.size
    del tally.running[number]
    tally.layers_done += 1
    progress.transfer(tally.state())


@contextmanager
def _closing(connection: _Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.drop()
        raise
    lent = connection.lent
    connection.close()
    connection.lent = lent


def pinned(image: ImageReference, manifest_digest: str) -> ImageReference:
    """The same image by its digest, so that a tag that moves meanwhile moves nothing here.

    Where policy.json has rules the name stays: a signature may be for the tag alone.
    """
    if image.transport != "registry" or not asks_nothing(find_policy()):
        return image
    return image.with_digest(manifest_digest)
