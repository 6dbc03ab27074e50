"""A layer that is read out of storage, and its objects, written by one process or by two."""

import hashlib
import io
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootc_build.disk.layer_cache.layer_objects import LayerObjects, is_whole, names
from bootc_build.disk.layer_cache.object_writer import ObjectsBeside
from bootc_build.disk.layer_cache.stored_layer import StoredTar, Window
from bootc_build.onhost.oci.layerstream import DamagedLayerError, LayerStream
from bootc_build.onhost.oci.tarstream import TarReader
from bootc_build.onhost.ostree.importer import (
    Layer,
    LayerContentError,
    LayerTree,
    read_layer,
)
from bootc_build.onhost.process import CommandError
from bootc_build.tools.containers_storage import PIECE_BYTES, StoredFile, UnknownStorageError
from tests.disk.test_layers import ENTRIES, facts, layer_of
from tests.onhost.oci_images import Entry, File, Link, Special, tar_of

OBJECT = f"sysroot/ostree/repo/objects/ab/{'c' * 62}.file"
# Enough for every batch to come round, and for a table to be full.
MANY: list[Entry] = [
    *(File(f"usr/many/{number:05}", data=b"%d" % number) for number in range(4500)),
    *(File(f"usr/large/{number}", data=os.urandom(3 << 20)) for number in range(6)),
    *(File(f"usr/middle/{number}", data=os.urandom(400_000)) for number in range(9)),
]
ALL: list[Entry] = [*ENTRIES, *MANY, File(OBJECT, data=b"object"), Link("usr/of", target=OBJECT)]


def parts_of(tar: bytes, folder: Path, *, apart: bool = True) -> Iterator[bytes | StoredFile]:
    """A tar as storage has it."""
    at = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        for number, member in enumerate(opened if apart else ()):
            if member.isreg() and member.size:
                yield tar[at : member.offset_data]
                at = member.offset_data + member.size
                path = folder / str(number)
                path.write_bytes(tar[member.offset_data : at])
                yield StoredFile(str(path), member.name, member.size)
    yield tar[at:]


def read(tar: StoredTar, store: LayerObjects, layer: Layer) -> str:
    """As `layers` does it."""
    tree = LayerTree(store, layer)
    for entry in tar.entries():
        tree.add(tar, entry)
    tar.verify(layer)
    return tree.write(tar.tar_bytes)


def nothing(_more: int) -> None:
    pass


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    return folder


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("apart", [True, False])
def test_two_processes_write_what_one_writes(
    tmp_path: Path, stored: Path, objects: Path, *, apart: bool
) -> None:
    tar = tar_of(ALL)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pieces = iter([tar])
    with (
        LayerObjects(theirs) as store,
        LayerStream(lambda _size: next(pieces, b""), "layer") as stream,
    ):
        wanted = read_layer(LayerTree(store, layer_of(tar)), stream, layer_of(tar))
    counted: list[int] = []
    with ObjectsBeside(objects) as beside:
        reader = StoredTar(parts_of(tar, stored, apart=apart), beside.window, counted.append)
        assert read(reader, beside, layer_of(tar)) == wanted
    assert names(objects) == names(theirs)
    for name in names(objects):
        assert facts(objects / name) == facts(theirs / name)
        assert is_whole(objects, name)
    assert sum(counted) == len(tar)


def test_one_process_reads_the_same_from_storage(stored: Path, objects: Path) -> None:
    tar = tar_of(ENTRIES)
    with LayerObjects(objects) as store:
        read(StoredTar(parts_of(tar, stored), Window(), nothing), store, layer_of(tar))
    assert all(is_whole(objects, name) for name in names(objects))
    assert any(name.endswith(".commit") for name in names(objects))


SIZES = [0, 1, 511, 512, 700_000, PIECE_BYTES, PIECE_BYTES + 1]
PARTS = st.lists(st.tuples(st.integers(0, len(SIZES) - 1), st.booleans()), max_size=6)


@settings(max_examples=40)
@given(
    PARTS,
    st.lists(st.integers(1, 3 * PIECE_BYTES), max_size=4),
    st.sampled_from(["read", "chunks", "nothing"]),
)
def test_however_a_tar_is_parted_it_reads_as_one(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[int, bool]],
    cuts: list[int],
    how: str,
) -> None:
    folder = tmp_path_factory.mktemp("stored")
    entries = [
        File(f"f{number}", data=bytes([number]) * SIZES[size])
        for number, (size, _) in enumerate(files)
    ]
    tar = tar_of(entries)
    parts: list[bytes | StoredFile] = []
    for part in parts_of(tar, folder):
        if isinstance(part, bytes):
            parts += [each for each in cut(part, cuts) if each]
            continue
        _size, apart = files[int(part.name[1:])]
        content = Path(part.path).read_bytes()
        if apart:
            parts.append(part)
        else:
            # Of a content the log may have some as bytes, or two files that make it up.
            path = folder / f"{part.name}-end"
            path.write_bytes(content[1:])
            parts.append(content[:1])
            if content[1:]:
                parts.append(StoredFile(str(path), part.name, len(content) - 1))
    window = Window()
    reader = StoredTar(iter(parts), window, nothing)
    plain = TarReader(iter([tar, b""]).__next__)
    assert contents(reader, how) == contents(plain, how)
    reader.verify(layer_of(tar))
    shutil.rmtree(folder)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    at = 0
    for place in sorted(place for place in places if place < len(data)):
        yield data[at:place]
        at = place
    yield data[at:]


def contents(reader: TarReader, how: str) -> list[tuple[bytes, bytes]]:
    found = []
    for entry in reader.entries():
        content = b""
        if how == "read":
            content = bytes(reader.read(entry))
        elif how == "chunks":
            content = b"".join(bytes(chunk) for chunk in reader.chunks(entry))
        found.append((entry.name, content))
    return found


Begin = Callable[[Path], AbstractContextManager[LayerObjects]]


@pytest.mark.parametrize("begin", [LayerObjects, ObjectsBeside])
def test_another_layer_is_refused(stored: Path, objects: Path, begin: Begin) -> None:
    tar = tar_of(ENTRIES)
    layer = Layer("sha256:" + "0" * 64, "sha256:" + "0" * 64, 2, 3)
    with begin(objects) as store:
        window = store.window if isinstance(store, ObjectsBeside) else Window()
        reader = StoredTar(parts_of(tar, stored), window, nothing)
        actual = hashlib.sha256(tar).hexdigest()
        with pytest.raises(DamagedLayerError, match=rf"Layer 2 of 3 .*diff_id sha256:{actual}, "):
            read(reader, store, layer)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Path.unlink, "FileNotFoundError: .*No such file"),
        (lambda path: os.truncate(path, 1), "usr/bin/a is shorter than its layer says"),
    ],
)
def test_storage_that_lost_something_is_told_from_a_wrong_layer(
    stored: Path, objects: Path, harm: Callable[[Path], None], words: str
) -> None:
    tar = tar_of(ENTRIES)
    parts = list(parts_of(tar, stored))
    harm(next(Path(part.path) for part in parts if isinstance(part, StoredFile)))
    with pytest.raises(UnknownStorageError, match=words), LayerObjects(objects) as store:
        read(StoredTar(iter(parts), Window(), nothing), store, layer_of(tar))


def test_what_no_system_can_have_is_named(stored: Path, objects: Path) -> None:
    tar = tar_of([*ENTRIES, Special("usr/null")])
    with (
        pytest.raises(LayerContentError, match=r"path 'usr/null': is a character device"),
        ObjectsBeside(objects) as store,
    ):
        read(StoredTar(parts_of(tar, stored), store.window, nothing), store, layer_of(tar))


def test_what_goes_wrong_in_the_other_process_is_raised_in_this_one(
    stored: Path, objects: Path
) -> None:
    tar = tar_of(ENTRIES)
    with ObjectsBeside(objects) as store:
        write_one(store, b"a")
        shutil.rmtree(objects)
        reader = StoredTar(parts_of(tar, stored), store.window, nothing)
        with pytest.raises(FileNotFoundError, match="No such file or directory"):
            read(reader, store, layer_of(tar))


def test_the_end_of_the_other_process_is_no_wait_without_end(stored: Path, objects: Path) -> None:
    tar = tar_of(ENTRIES)
    with ObjectsBeside(objects) as store:
        store._process.send_signal(signal.SIGKILL)
        reader = StoredTar(parts_of(tar, stored), store.window, nothing)
        with pytest.raises(CommandError, match="object_writer was ended by signal 9"):
            read(reader, store, layer_of(tar))


def test_no_process_stays_when_the_block_is_left(objects: Path) -> None:
    store = ObjectsBeside(objects)
    with pytest.raises(KeyboardInterrupt), store:
        raise KeyboardInterrupt
    assert store._process.returncode is not None


def test_the_other_process_leaves_a_stop_to_this_one(objects: Path) -> None:
    with ObjectsBeside(objects) as store:
        for content in (b"a", b"b"):
            write_one(store, content)
            store._process.send_signal(signal.SIGINT)
    assert len(names(objects)) == 2
    assert all(is_whole(objects, name) for name in names(objects))


def write_one(store: ObjectsBeside, content: bytes) -> None:
    """Have the other process write a file, and wait until it has."""
    view = store.window.place(len(content))
    view[:] = content
    store.write_file(0, 0, 0o644, {}, cast("bytes", view))
    store._wait()
