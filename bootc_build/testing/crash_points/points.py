"""Where a power cut may hit: decided from the log alone. Pure.

A disk promises no more than this: what was written before a flush is there after it. So an epoch, the writes between
two flushes, may be there in any part: any of its writes, each as a whole or only some of its sectors, in any order of
writes to the same place. That is too many to try; all states at flushes are, and a sample of the others is drawn. Where
a boot loader reads what is written without replaying a journal, small epochs are tried in all their parts: there a
single block that comes before another one can be the end of the menu, and a sample would find it once in a while.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bootc_build.testing.crash_points.write_log import FUA, Write

# So many writes have 62 parts.
_FEW: Final = 6


class Kind(StrEnum):
    """What is special about a crash point."""

    FLUSH = "flush"  # all until a flush
    PREFIX = "prefix"  # all until a write within an epoch
    REORDERED = "reordered"  # some writes of an epoch
    TORN = "torn"  # the same, one of them in part
    PART = "part"  # one of all the choices of the writes of a small epoch


@dataclass(frozen=True, slots=True)
class Partial:
    """A write of the unfinished epoch that is there.

    Args:
        index: in the log.
        first: the first of its sectors that is there.
        sectors: how many from there on.
    """

    index: int
    first: int
    sectors: int


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A state of the disk.

    Args:
        kind: how it comes about.
        flushed: so many entries of the log are there as a whole.
        partials: and these of the following.
    """

    kind: Kind
    flushed: int
    partials: tuple[Partial, ...] = ()

    @property
    def name(self) -> str:
        """Names it in reports; with the log's seed it says how to find it again."""
        if not self.partials:
            return f"{self.kind}-{self.flushed}"
        there = sum(partial.sectors for partial in self.partials)
        told = self.partials if self.kind is Kind.PART else self.partials[-1:]
        which = "+".join(str(partial.index) for partial in told)
        return f"{self.kind}-{self.flushed}+{len(self.partials)}w{there}s@{which}"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Entries from `start` on and before `stop`, none of which flushes; `stop` is a flush or the end."""

    start: int
    stop: int


def epochs(entries: Sequence[Write], start: int, stop: int) -> Iterator[Epoch]:
    """The epochs of a part of a log, those without writes left out."""
    begun = start
    for index in range(start, stop + 1):
        if index == stop or entries[index].flushes:
            if any(entry.writes for entry in entries[begun:index]):
                yield Epoch(begun, index)
            begun = index + 1


def plan_points(
    entries: Sequence[Write],
    start: int,
    stop: int,
    *,
    samples: int,
    seed: int,
    closely: Callable[[Write], bool] = lambda _write: False,
) -> list[CrashPoint]:
    """The crash points of a part of a log, in its order.

    Args:
        entries: of the log.
        start: index of the first entry of the part.
        stop: index after its last.
        samples: how many points within epochs are drawn, at most.
        seed: of the drawing.
        closely: whether a write is one of those that are tried with and without each of the others, if there are
            no more than a few in its epoch.
    """
    found = list(epochs(entries, start, stop))
    shares = _shares([_weight(entries, epoch) for epoch in found], samples)
    points = [CrashPoint(Kind.FLUSH, start)]
    for number, (epoch, share) in enumerate(zip(found, shares, strict=True)):
        draw = random.Random(f"{seed}:{number}:{epoch.start}")  # noqa: S311 - repeatable, not secret
        points += [_draw(entries, epoch, draw) for _ in range(share)]
        points += _all_parts(entries, epoch, closely)
        points.append(CrashPoint(Kind.FLUSH, epoch.stop))
    return points


def _all_parts(
    entries: Sequence[Write], epoch: Epoch, closely: Callable[[Write], bool]
) -> Iterator[CrashPoint]:
    """Every choice of the writes that are looked at closely, but for none and all, with all of the others."""
    writes = [index for index in range(epoch.start, epoch.stop) if entries[index].writes]
    close = [index for index in writes if closely(entries[index])]
    if len(close) > _FEW:
        return
    # What the drive was told to have before it answers is there.
    free = [index for index in close if not entries[index].flags & FUA]
    for count in range(len(free)):
        for left_out in itertools.combinations(free, count + 1):
            there = [index for index in writes if index not in left_out]
            if there:
                partials = tuple(Partial(index, 0, entries[index].sectors) for index in there)
                yield CrashPoint(Kind.PART, epoch.start, partials)


def _weight(entries: Sequence[Write], epoch: Epoch) -> int:
    """How much there is to choose from: a single sector is there or not, and both are states at flushes."""
    inside = [entry for entry in entries[epoch.start : epoch.stop] if entry.writes]
    return 0 if len(inside) == 1 and inside[0].sectors == 1 else len(inside)


def _shares(weights: Sequence[int], samples: int) -> list[int]:
    """Samples for each epoch: at first one each, the rest in proportion to the roots of their weights."""
    wanted = [weight**0.5 for weight in weights]
    total = sum(wanted)
    if not total:
        return [0] * len(weights)
    shares = []
    carried = 0.0
    for one in wanted:
        carried += samples * one / total
        shares.append(int(carried + 1e-9))
        carried -= shares[-1]
    return shares


def _draw(entries: Sequence[Write], epoch: Epoch, draw: random.Random) -> CrashPoint:
    writes = [index for index in range(epoch.start, epoch.stop) if entries[index].writes]
    kind = draw.choices((Kind.PREFIX, Kind.REORDERED, Kind.TORN), weights=(1, 4, 3))[0]
    if kind is Kind.PREFIX:
        chosen = writes[: draw.randint(1, len(writes))]
    else:
        # Nearly nothing, half or nearly all of it: each finds other mistakes.
        share = draw.choice((0.1, 0.5, 0.9))
        chosen = [index for index in writes if entries[index].flags & FUA or draw.random() < share]
        chosen = chosen or [draw.choice(writes)]
    partials = [Partial(index, 0, entries[index].sectors) for index in chosen]
    if kind is Kind.REORDERED:
        draw.shuffle(partials)
    if kind is Kind.TORN:
        _tear(partials, draw)
    return CrashPoint(kind, epoch.start, tuple(partials))


def _tear(partials: list[Partial], draw: random.Random) -> None:
    """Leave a part of one write, its beginning or its end."""
    long = [at for at, partial in enumerate(partials) if partial.sectors > 1]
    if not long:
        return
    at = draw.choice(long)
    whole = partials[at]
    cut = draw.randint(1, whole.sectors - 1)
    first = draw.choice((0, cut))
    partials[at] = Partial(whole.index, first, whole.sectors - cut if first else cut)
