"""The streaming tar reader against the standard library's and GNU tar's writing."""

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.oci.tarstream import MalformedTarError, TarEntry, TarReader
from tests.onhost.oci_images import Dir, Entry, File, Link, Symlink, tar_of

names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
long_names = st.lists(names.filter(lambda n: n not in (".", "..")), min_size=1, max_size=8).map(
    lambda parts: "/".join(parts)[:300].rstrip("/") or "x"
)
entries = st.one_of(
    st.builds(
        File,
        long_names,
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, 2**32 - 2),  # the last number stands for none: it is refused
        gid=st.integers(0, 2**21 + 5),
        data=st.binary(max_size=1500),
    ),
    st.builds(Dir, long_names, mode=st.integers(0, 0o7777)),
    st.builds(Symlink, long_names, target=long_names),
    st.builds(Link, long_names, target=long_names),
)


def chunks_of(data: bytes, size: int) -> Callable[[], bytes]:
    """A source that gives the data in pieces."""
    pieces = iter([data[i : i + size] for i in range(0, len(data), size)])
    return lambda: next(pieces, b"")


def read_all(data: bytes, size: int = 1000) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(chunks_of(data, size))
    return [(entry, b"".join(reader.chunks(entry))) for entry in reader.entries()]


@given(
    st.lists(entries, max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
def test_every_field_is_read_as_it_was_written(
    written: list[Entry], tar_format: int, size: int
) -> None:
    found = read_all(tar_of(written, tar_format), size)
    assert len(found) == len(written)
    for entry, (read, data) in zip(written, found, strict=True):
        assert read.name.rstrip(b"/") == entry.path.encode().rstrip(b"/")
        assert (read.mode, read.uid, read.gid) == (entry.mode, entry.uid, entry.gid)
        if isinstance(entry, File):
            assert data == entry.data
        if isinstance(entry, Symlink | Link):
            assert read.link == entry.target.encode()


def test_content_that_is_not_read_is_skipped() -> None:
    reader = TarReader(chunks_of(tar_of([File("a", data=b"x" * 2000), File("b")]), 100))
    assert [entry.name for entry in reader.entries()] == [b"a", b"b"]


def test_extended_attributes_are_kept_whole() -> None:
    value = "line\nbreak=1"
    [(entry, _)] = read_all(tar_of([File("a", pax={"SCHILY.xattr.user.x": value})]))
    assert entry.xattrs == {b"user.x": value.encode()}


@pytest.mark.parametrize("arguments", [["--format=gnu"], ["--format=pax", "--sparse-version=0.0"],
    ["--format=pax", "--sparse-version=0.1"], ["--format=pax", "--sparse-version=1.0"]])  # fmt: skip
def test_sparse_files_get_their_holes_back(tmp_path: Path, arguments: list[str]) -> None:
    with (tmp_path / "sparse").open("wb") as out:
        for i in range(30):
            out.seek(i * 100_000)
            out.write(bytes([i + 1]) * 4096)
        out.truncate(4_000_000)
    (tmp_path / "after").write_bytes(b"next")
    tar = subprocess.run(
        ["tar", "-C", tmp_path, "--sparse", *arguments, "-cf", "-", "sparse", "after"],
        check=True,
        capture_output=True,
    ).stdout
    assert len(tar) < 1_000_000
    found = {entry.name: (entry.size, data) for entry, data in read_all(tar, 4096)}
    expected = (tmp_path / "sparse").read_bytes()
    assert found[b"sparse"] == (len(expected), expected)
    assert found[b"after"] == (4, b"next")


@pytest.mark.parametrize("cut", [100, 600, 1500])
def test_a_tar_that_ends_early_is_refused(cut: int) -> None:
    with pytest.raises(MalformedTarError, match="ends in the middle"):
        read_all(tar_of([File("a", data=b"x" * 5000)])[:cut])


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(MalformedTarError, match="not a tar stream"):
        read_all(os.urandom(1024))


@pytest.mark.parametrize(
    ("where", "value", "problem"),
    [
        ((108, 116), b"\xff" * 8, "owner"),  # -1 in base 256
        ((116, 124), b"\x80\x00\x00\x01\x00\x00\x00\x00", "owner"),
        ((124, 136), b"\xff" * 12, "size"),
    ],
)
def test_numbers_out_of_range_are_malformed(
    where: tuple[int, int], value: bytes, problem: str
) -> None:
    data = bytearray(tar_of([File("usr/a", data=b"1")]))
    data[where[0] : where[1]] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    with pytest.raises(MalformedTarError, match=problem):
        read_all(bytes(data))


@pytest.mark.parametrize("record", ["GNU.sparse.map", "GNU.sparse.realsize"])
def test_a_sparse_map_of_nonsense_is_malformed(record: str) -> None:
    pax = {"GNU.sparse.map": "0,1", "GNU.sparse.realsize": "5", record: "no number"}
    with pytest.raises(MalformedTarError, match="impossible map"):
        read_all(tar_of([File("usr/a", data=b"1", pax=pax)]))


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_long_name_that_is_cut_after_a_slash_is_no_directory(tar_format: int) -> None:
    path = "d" * 99 + "/" + "f" * 30
    tar = tar_of([File(path, data=b"content"), File("next", data=b"1")], tar_format)
    found = [(entry.kind, entry.name, data) for entry, data in read_all(tar)]
    assert found == [(ord("0"), path.encode(), b"content"), (ord("0"), b"next", b"1")]


def test_a_directory_as_tar_wrote_it_before_posix() -> None:
    info = tarfile.TarInfo("old")
    info.type = tarfile.AREGTYPE
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[3] = ord("/")
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    ((entry, _data),) = read_all(bytes(header))
    assert entry.kind == ord("5")
