"""The ext4 writer: what it refuses, and any folder there and back."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootc_build.disk.ext4 import attributes, directory
from bootc_build.disk.ext4.allocate import FreeBlocks, place_content, place_metadata
from bootc_build.disk.ext4.fill import Identity, make_ext4
from bootc_build.disk.ext4.scan import BLOCK, Node, scan
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError
from bootc_build.tools.e2fsprogs import Ext4Slot, index_directories
from tests.disk.ext4_disks import MIB, TIMESTAMP, asked, fill, require_sound


@pytest.mark.parametrize(
    ("files", "size", "fact"),
    [
        (3, 1 << 25, "do not fit into a file system of 16 MiB"),
        (5000, 0, "has 4096 inodes, and the image has 5011 files"),
    ],
)
def test_what_does_not_fit_is_an_error(tmp_path: Path, files: int, size: int, fact: str) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(files):
        (tmp_path / f"tree/{number}").write_bytes(b"x" * size)
    with pytest.raises(UserError, match=fact) as caught:
        fill(tmp_path / "tree", tmp_path / "disk", 16 * MIB)
    assert "--size" in caught.value.remedy


def test_more_attributes_than_there_is_room_for_are_an_error() -> None:
    with pytest.raises(attributes.TooLargeError):
        attributes.encode({"user.a": bytes(3000), "user.b": bytes(3000)}, 96)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(bytes(100_000))
    scanned = scan(tmp_path / "tree", TIMESTAMP)
    with (tmp_path / "disk").open("xb") as file:
        file.truncate(16 * MIB)
    identity = Identity(UUID(int=1), UUID(int=2), "label", TIMESTAMP)
    image = make_ext4(Ext4Slot(tmp_path / "disk", 0, 16 * MIB), scanned, identity)
    os.truncate(tmp_path / "tree/file", 50_000)
    with pytest.raises(UserError, match="file became shorter"):
        image.write_contents()


def test_a_file_system_that_is_not_whole_is_an_error(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    (tmp_path / "disk").touch()
    slot = Ext4Slot(tmp_path / "disk", 0, 64 * MIB)
    argv = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tree)]
    subprocess.run([*argv, slot.disk, "128M"], check=True)
    asked_for = "clri /file\nquit\n"
    subprocess.run(["debugfs", "-w", slot.device], input=asked_for, text=True, check=True)
    with pytest.raises(CommandError):
        index_directories(slot, TIMESTAMP)


@pytest.mark.parametrize(("pieces", "leaves"), [(4, 0), (5, 1), (340, 1), (341, 2)])
def test_every_kind_of_node_has_its_extents_listed(pieces: int, leaves: int) -> None:
    # Every second block is free.
    free = ((2 * place, 1) for place in range(10_000))
    folder = Node(b"folder", stat.S_IFDIR | 0o755, 0, 0)
    folder.names = [(b"%0200d" % place, folder) for place in range(19 * pieces - 1)]
    file = Node(b"file", stat.S_IFREG | 0o644, 0, 0, ranges=[(0, pieces)])
    blocks = FreeBlocks(free)
    place_metadata(folder, blocks, b"")
    place_content(file, blocks)
    for node in (folder, file):
        assert len(node.extents) == pieces
        assert len(node.tree_blocks) == leaves


def test_more_pieces_than_can_be_listed_are_an_error() -> None:
    file = Node(b"/some/file", stat.S_IFREG | 0o644, 0, 0, ranges=[(0, 1361)])
    with pytest.raises(UserError, match="/some/file is in more pieces"):
        place_content(file, FreeBlocks((2 * place, 1) for place in range(10_000)))


@pytest.mark.parametrize("count", [0, 1, 100, 127, 128, 5000])
def test_a_directory_takes_the_blocks_that_it_was_given(count: int) -> None:
    names = [f"{'n' * (number % 200)}{number}".encode() for number in range(count)]
    entries = [(name, 12, stat.S_IFREG) for name in names]
    assert len(directory.encode(2, 2, entries, 0)) == directory.blocks(names) * BLOCK


_NAMES = st.text("abcdefgh.é", min_size=1, max_size=80).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) < 200
)
_CONTENTS = st.one_of(
    st.binary(max_size=9000),
    st.text(min_size=1, max_size=100).map(lambda text: text.replace("\0", "x")),
    st.dictionaries(st.sampled_from(["user.a", "user.b", "trusted.c"]), st.binary(max_size=900)),
)
_FOLDERS = st.recursive(
    st.dictionaries(_NAMES, _CONTENTS, max_size=6),
    lambda inner: st.dictionaries(_NAMES, st.one_of(_CONTENTS, st.tuples(inner)), max_size=6),
    max_leaves=12,
)


def make(folder: Path, content: dict[str, object]) -> None:
    folder.mkdir()
    for name, inside in content.items():
        path = folder / name
        match inside:
            case bytes():
                path.write_bytes(inside)
            case str():
                path.symlink_to(inside)
            case tuple():
                make(path, inside[0])
            case dict():
                path.touch()
                for key, value in inside.items():
                    os.setxattr(path, key, value)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=_FOLDERS)
def test_any_folder_comes_back(tmp_path: Path, content: dict[str, object]) -> None:
    for name in ("tree", "copy"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    (tmp_path / "disk").unlink(missing_ok=True)
    (tmp_path / "copy").mkdir()
    make(tmp_path / "tree", content)
    slot = fill(tmp_path / "tree", tmp_path / "disk", 16 * MIB)
    require_sound(slot)
    asked(slot, f"rdump / {tmp_path / 'copy'}")
    shutil.rmtree(tmp_path / "copy/lost+found")
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", tmp_path / "tree", tmp_path / "copy"], check=False
    )
    assert done.returncode == 0
    for path in (tmp_path / "tree").rglob("*"):
        if path.is_symlink():
            continue
        for name in os.listxattr(path):
            value = tmp_path / "value"
            asked(slot, f'ea_get -f {value} "/{path.relative_to(tmp_path / "tree")}" {name}')
            assert value.read_bytes() == os.getxattr(path, name)
