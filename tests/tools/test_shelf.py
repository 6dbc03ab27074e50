"""The shelf with real processes: made once, used by many, bounded, whole after a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError
from bootc_build.tools.shelf import Shelf, chosen_bound
from bootc_build.vm.waiting import wait_until

_WHOLE = 4096
_MAKER = """
import sys
from pathlib import Path
from bootc_build.tools.shelf import Shelf

def make(place):
    (place / "content").write_text("half")
    print("making", flush=True)
    sys.stdin.readline()
    (place / "content").write_text("whole")
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")

with Shelf(Path(sys.argv[1]), 1 << 30).obtain("key", make) as held:
    print((held.path / "content").read_text(), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf", 1 << 30)


def _put(shelf: Shelf, key: str, *, pages: int = 1, used: float | None = None) -> None:
    shelf.obtain(key, lambda place: _fill(place, pages)).close()
    if used is not None:
        os.utime(shelf.folder / f"{key}.lock", (used, used))


def _fill(place: Path, pages: int) -> None:
    (place / "content").write_bytes(b"x" * _WHOLE * pages)


def _keys(shelf: Shelf) -> list[str]:
    return [thing.key for thing in shelf.things()]


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _MAKER, str(tmp_path / "shelf"), str(tmp_path / "log")]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _blocked_on_a_lock(process: subprocess.Popen[str]) -> bool:
    # A "->" in /proc/locks is a process that waits.
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {process.pid} " in line for line in locks)


def test_two_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    with _start(tmp_path) as first:
        assert _line(first) == "making"
        with _start(tmp_path) as second:
            assert wait_until(lambda: _blocked_on_a_lock(second), seconds=20)
            _go_on(first)
            assert _line(first) == "whole"
            # The first still uses it: the second need not wait for that.
            assert _line(second) == "whole"
            _go_on(second)
        _go_on(first)
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_killed_maker_leaves_nothing_that_counts(tmp_path: Path, shelf: Shelf) -> None:
    with _start(tmp_path) as first:
        assert _line(first) == "making"
        with _start(tmp_path) as second:
            assert wait_until(lambda: _blocked_on_a_lock(second), seconds=20)
            first.send_signal(signal.SIGKILL)
            assert _line(second) == "making"
            _go_on(second)
            assert _line(second) == "whole"
            _go_on(second)
    assert _keys(shelf) == ["key"]


def test_what_a_dead_maker_left_is_swept(tmp_path: Path, shelf: Shelf) -> None:
    with _start(tmp_path) as maker:
        assert _line(maker) == "making"
        shelf.sweep()
        assert [path.name for path in shelf.folder.iterdir() if path.is_dir()] == ["key.partial"]
        maker.kill()
    assert _keys(shelf) == []
    shelf.sweep()
    assert list(shelf.folder.iterdir()) == []


def test_a_maker_that_fails_leaves_nothing(shelf: Shelf) -> None:
    def fail(place: Path) -> None:
        _fill(place, 1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        shelf.obtain("key", fail)
    assert _keys(shelf) == []
    assert not (shelf.folder / "key.partial").exists()
    _put(shelf, "key")
    assert _keys(shelf) == ["key"]


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 1 << 30)
    for number, key in enumerate(["old", "older", "new"]):
        _put(shelf, key, pages=100, used=1000.0 * (number + 1))
    held = shelf.find("old")
    assert held is not None
    held.close()  # Looking it up is using it.
    small = Shelf(tmp_path, 250 * _WHOLE)
    assert [thing.key for thing in small.trim()] == ["older"]
    assert sorted(_keys(small)) == ["new", "old"]
    assert not (tmp_path / "older.lock").exists()


def test_making_one_more_keeps_the_bound(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 250 * _WHOLE)
    for number, key in enumerate("abc"):
        _put(shelf, key, pages=100, used=1000.0 * (number + 1))
    assert _keys(shelf) == ["b", "c"]


def test_what_is_larger_than_the_bound_is_made_all_the_same(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 10 * _WHOLE)
    _put(shelf, "large", pages=100)
    assert _keys(shelf) == ["large"]


def test_what_is_in_use_stays(tmp_path: Path, shelf: Shelf) -> None:
    with _start(tmp_path) as user:
        assert _line(user) == "making"
        _go_on(user)
        assert _line(user) == "whole"
        [thing] = shelf.things()
        assert thing.in_use
        assert shelf.trim(0) == []
        assert not shelf.discard("key")
        assert (thing.path / "content").read_text() == "whole"
        user.kill()
    assert [thing.key for thing in shelf.trim(0)] == ["key"]
    assert list(shelf.folder.iterdir()) == []


def test_what_was_not_used_since_can_be_removed(shelf: Shelf) -> None:
    _put(shelf, "old", used=1000)
    _put(shelf, "new", used=3000)
    assert [thing.key for thing in shelf.remove_unused_since(2000)] == ["old"]
    assert _keys(shelf) == ["new"]


def test_holes_take_no_room(shelf: Shelf) -> None:
    def make(place: Path) -> None:
        with (place / "content").open("wb") as file:
            file.truncate(1 << 30)

    shelf.obtain("key", make).close()
    [thing] = shelf.things()
    assert thing.stored_bytes < 1 << 20


def test_what_a_thing_takes_is_found_without_looking_through_it(shelf: Shelf) -> None:
    _put(shelf, "key", pages=100)
    [thing] = shelf.things()
    assert 100 * _WHOLE <= thing.stored_bytes < 110 * _WHOLE
    (thing.path / "content").unlink()
    assert shelf.things() == [thing]


@pytest.mark.parametrize("left", [b"", b"12", b"\0\0\0\0"])
def test_what_a_thing_takes_is_found_where_it_is_not_noted(shelf: Shelf, left: bytes) -> None:
    _put(shelf, "key", pages=100)
    [thing] = shelf.things()
    (shelf.folder / "key.lock").write_bytes(left)
    [again] = shelf.things()
    assert again.stored_bytes == thing.stored_bytes


def test_only_the_owner_can_look_inside(shelf: Shelf) -> None:
    _put(shelf, "key")
    assert shelf.folder.stat().st_mode & 0o077 == 0


def test_a_bound_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_bound("BOOTC_BUILD_TEST_BOUND", 7) == 7
    monkeypatch.setenv("BOOTC_BUILD_TEST_BOUND", "2G")
    assert chosen_bound("BOOTC_BUILD_TEST_BOUND", 7) == 2 << 30
    monkeypatch.setenv("BOOTC_BUILD_TEST_BOUND", "much")
    with pytest.raises(UsageError, match="BOOTC_BUILD_TEST_BOUND: 'much' is not a size"):
        chosen_bound("BOOTC_BUILD_TEST_BOUND", 7)
