import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.testing.crash_points.points import Kind, epochs, plan_points
from bootc_build.testing.crash_points.replay import Region, ReplayedDisk
from bootc_build.testing.crash_points.write_log import (
    DISCARD,
    FLUSH,
    FUA,
    MARK,
    SECTOR,
    WriteLog,
    write_log,
)

_DISK = 32  # sectors
Entry = tuple[int, bytes, int]


@st.composite
def _entry(draw: st.DrawFn) -> Entry:
    if draw(st.integers(0, 3)) == 0:
        return (0, b"", FLUSH)
    sector = draw(st.integers(0, _DISK - 1))
    sectors = draw(st.integers(1, min(4, _DISK - sector)))
    data = b"".join(bytes([draw(st.integers(0, 3))]) * SECTOR for _ in range(sectors))
    return (sector, data, draw(st.sampled_from([0, 0, 0, FUA])))


_entries = st.lists(_entry(), max_size=25)


def _apply(disk: bytearray, sector: int, data: bytes) -> None:
    disk[sector * SECTOR : sector * SECTOR + len(data)] = data


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(0, 2**32), st.integers(0, 30))
def test_every_point_is_what_a_naive_replay_makes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], seed: int, samples: int
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    log = write_log(folder / "log", entries)
    base = b"".join(bytes([number]) * SECTOR for number in range(_DISK))
    (folder / "disk").write_bytes(base)
    contents: dict[int, bytes] = {}
    points = plan_points(log.entries, 0, len(entries), samples=samples, seed=seed)
    with ReplayedDisk({Region("all", 0, _DISK): folder / "disk"}, log) as disk:
        for point in points:
            naive = bytearray(base)
            for sector, data, _ in entries[: point.flushed]:
                _apply(naive, sector, data)
            for part in point.partials:
                sector, data, _ = entries[part.index]
                piece = data[part.first * SECTOR : (part.first + part.sectors) * SECTOR]
                _apply(naive, sector + part.first, piece)
            with disk.at(point):
                assert (folder / "disk").read_bytes() == bytes(naive)
                fingerprint = disk.fingerprint("all")
            assert contents.setdefault(fingerprint, bytes(naive)) == bytes(naive)
            assert (fingerprint == 0) == (bytes(naive) == base)
    assert len(set(contents.values())) == len(contents)


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(0, 2**32))
def test_points_keep_what_a_disk_promises(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], seed: int
) -> None:
    log = write_log(tmp_path_factory.mktemp("points") / "log", entries)
    points = plan_points(log.entries, 0, len(entries), samples=20, seed=seed)
    assert points == plan_points(log.entries, 0, len(entries), samples=20, seed=seed)
    assert [point.flushed for point in points] == sorted(point.flushed for point in points)
    assert sum(bool(point.partials) for point in points) <= 20
    flushes = {index for index, entry in enumerate(log.entries) if entry.flushes}
    at_flush = {point.flushed for point in points if point.kind is Kind.FLUSH}
    for epoch in epochs(log.entries, 0, len(entries)):
        assert epoch.stop in at_flush
        assert not flushes & set(range(epoch.start, epoch.stop))
    for point in points:
        indexes = [part.index for part in point.partials]
        assert len(indexes) == len(set(indexes))
        for part in point.partials:
            assert log.entries[part.index].writes
            # Nothing of a later epoch is there while something of this one may be missing.
            assert not flushes & set(range(point.flushed, part.index))
            assert 0 < part.sectors <= log.entries[part.index].sectors - part.first


def test_samples_tear_and_reorder(tmp_path: Path) -> None:
    entries = [(sector, bytes([sector]) * 4 * SECTOR, 0) for sector in range(0, 20, 4)]
    log = write_log(tmp_path / "log", [*entries, (0, b"", FLUSH)])
    points = plan_points(log.entries, 0, 6, samples=40, seed=1)
    assert {point.kind for point in points} == set(Kind) - {Kind.PART}
    assert len({point.name for point in points}) > 20
    torn = [point for point in points if point.kind is Kind.TORN]
    assert any(part.sectors < 4 for point in torn for part in point.partials)
    assert any(part.first for point in torn for part in point.partials)
    orders = [[p.index for p in point.partials] for point in points if point.kind is Kind.REORDERED]
    assert any(order != sorted(order) for order in orders)
    assert points != plan_points(log.entries, 0, 6, samples=40, seed=2)


def test_small_epochs_are_tried_in_all_parts_where_that_is_asked_for(tmp_path: Path) -> None:
    entries = [(sector, bytes([sector + 1]) * SECTOR, 0) for sector in (1, 2, 100, 3)]
    log = write_log(tmp_path / "log", [*entries, (0, b"", FLUSH), (4, b"x" * SECTOR, 0)])

    def parts(few: int) -> list[set[int]]:
        points = plan_points(
            log.entries, 0, 6, samples=0, seed=1, closely=lambda write: write.sector < few
        )
        found = [point for point in points if point.kind is Kind.PART]
        assert len({point.name for point in found}) == len(found)
        return [{part.index for part in point.partials} for point in found]

    # Of sectors 1 and 2 one, the other or none; the others are all there.
    assert sorted(map(sorted, parts(3))) == [[0, 2, 3], [1, 2, 3], [2, 3]]
    assert len(parts(101)) == 2**4 - 2
    assert parts(0) == []
    many = write_log(tmp_path / "many", [(sector, b"x" * SECTOR, 0) for sector in range(7)])
    assert len(plan_points(many.entries, 0, 7, samples=0, seed=1, closely=lambda _: True)) == 2


def test_a_write_through_is_there_in_every_reordering(tmp_path: Path) -> None:
    entries = [(n, bytes([n + 1]) * SECTOR, FUA if n == 2 else 0) for n in range(6)]
    log = write_log(tmp_path / "log", entries)
    points = plan_points(log.entries, 0, 6, samples=50, seed=3)
    for point in points:
        if point.kind in {Kind.REORDERED, Kind.TORN}:
            assert 2 in [part.index for part in point.partials]


def test_discards_and_marks_change_nothing(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", [(1, b"\1" * SECTOR, 0), (0, b"", FLUSH)])
    raw = bytearray((tmp_path / "log").read_bytes())
    raw += struct.pack("<QQQQ", 1, 1, DISCARD, 0).ljust(SECTOR, b"\0")
    raw += struct.pack("<QQQQ", 0, 0, MARK, 0).ljust(SECTOR, b"\0")
    (tmp_path / "log").write_bytes(raw)
    log = WriteLog.open(tmp_path / "log")
    assert [entry.writes for entry in log.entries] == [True, False, False, False]


def test_what_is_cut_off_at_the_end_is_left_out(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", [(0, b"a" * SECTOR, 0), (1, b"b" * 2 * SECTOR, FLUSH)])
    size = log.path.stat().st_size
    assert log.count_at(size) == 2
    assert log.count_at(size - 1) == 1
    for cut in (1, SECTOR, 2 * SECTOR + 1):
        with log.path.open("r+b") as file:
            file.truncate(size - cut)
        assert len(WriteLog.open(log.path).entries) == 1


def test_another_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(4096))
    with pytest.raises(UserError, match="no log of writes"):
        WriteLog.open(tmp_path / "log")
    with pytest.raises(UserError, match="cannot be read"):
        WriteLog.open(tmp_path / "none")
