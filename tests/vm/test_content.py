"""Digests of what files hold."""

import os
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.vm.content import content_digest, disk_digest
from bootc_build.vm.spec import Disk

_MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "digests"


def _age(path: Path) -> None:
    """Give a file another time."""
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))


def test_name_time_and_holes_do_not_count(tmp_path: Path, cache: Path) -> None:
    solid, sparse = tmp_path / "solid", tmp_path / "sparse"
    solid.write_bytes(bytes(3 * _MIB) + b"end" + bytes(_MIB))
    with sparse.open("wb") as file:
        file.seek(3 * _MIB)
        file.write(b"end")
        file.truncate(solid.stat().st_size)
    _age(sparse)
    assert sparse.stat().st_blocks < solid.stat().st_blocks
    assert content_digest(solid, cache=cache) == content_digest(sparse, cache=cache)


@pytest.mark.parametrize(
    "other", [b"a" * _MIB + b"B", b"a" * _MIB, b"a" * _MIB + b"b\0", b"b" + b"a" * _MIB]
)
def test_content_place_and_size_count(tmp_path: Path, cache: Path, other: bytes) -> None:
    (tmp_path / "one").write_bytes(b"a" * _MIB + b"b")
    (tmp_path / "two").write_bytes(other)
    one, two = (content_digest(tmp_path / name, cache=cache) for name in ("one", "two"))
    assert one != two


def test_zeroes_count_by_their_number(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(2 * _MIB))
    (tmp_path / "two").write_bytes(bytes(3 * _MIB))
    one, two = (content_digest(tmp_path / name, cache=cache) for name in ("one", "two"))
    assert one != two


def test_a_change_of_the_same_size_is_seen(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    digests = set()
    for letter in b"abc":
        path.write_bytes(bytes([letter]) * 100)
        digests.add(content_digest(path, cache=cache))
    assert len(digests) == 3


def test_what_was_written_just_now_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    content_digest(path, cache=cache)
    assert not cache.exists()


def test_an_old_file_is_read_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    later = path.stat().st_ctime_ns + 3_000_000_000
    monkeypatch.setattr("bootc_build.vm.content.time.time_ns", lambda: later)
    first = content_digest(path, cache=cache)
    [known] = cache.iterdir()
    known.write_text("remembered")
    assert content_digest(path, cache=cache) == "remembered"
    path.write_bytes(b"x")
    assert content_digest(path, cache=cache) == first


def test_a_disk_above_another_depends_on_both(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.raw", tmp_path / "overlay.qcow2"
    base.write_bytes(b"a" * _MIB)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(overlay)])
    before = disk_digest(Disk.open(overlay))
    assert before == disk_digest(Disk.open(overlay))
    base.write_bytes(b"b" * _MIB)
    assert disk_digest(Disk.open(overlay)) != before


def test_a_file_that_is_not_there_is_told(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        content_digest(tmp_path / "nowhere", cache=cache)
