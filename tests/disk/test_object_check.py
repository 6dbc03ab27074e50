"""Objects are hashed on their way to the disk."""

import os
import stat
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.disk.ext4.fill import Identity, make_ext4
from bootc_build.disk.ext4.scan import scan
from bootc_build.disk.layer_cache.layer_objects import LayerObjects, names
from bootc_build.disk.layer_cache.object_check import ObjectCheck
from bootc_build.tools.e2fsprogs import Ext4Slot

MIB = 1 << 20
OBJECTS = "ostree/repo/objects"
LARGE = os.urandom(MIB) + bytes(3 * MIB) + os.urandom(5)


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, str]:
    """A repository with an object of each kind: kind -> the object's name."""
    folder = tmp_path / "tree" / OBJECTS
    folder.mkdir(parents=True)
    with LayerObjects(folder) as store:
        sums = {
            "file": store.write_file(0, 0, stat.S_IFREG | 0o644, {}, b"content"),
            "attributed": store.write_file(
                1, 2, stat.S_IFREG | 0o4755, {b"user.a": b"value"}, b"content"
            ),
            "empty": store.write_file(0, 0, stat.S_IFREG | 0o600, {}, b""),
            "large": store.write_large_file(
                0, 0, stat.S_IFREG | 0o644, {}, size=len(LARGE), chunks=iter([LARGE])
            ),
            "holes": store.write_large_file(
                0, 0, stat.S_IFREG | 0o644, {}, size=2 * MIB, chunks=iter([bytes(2 * MIB)])
            ),
            "link": store.write_symlink(0, 0, {}, "target"),
            "dirmeta": store.write_dirmeta(0, 0, 0o755, {}),
        }
    return {
        kind: next(name for name in names(folder) if name.replace("/", "").startswith(checksum))
        for kind, checksum in sums.items()
    }


def checked(tmp_path: Path) -> ObjectCheck:
    tree = scan(tmp_path / "tree", 1)
    check = ObjectCheck(tree)
    with (tmp_path / "disk").open("xb") as file:
        file.truncate(64 * MIB)
    slot = Ext4Slot(tmp_path / "disk", 0, 64 * MIB)
    image = make_ext4(slot, tree, Identity(UUID(int=1), UUID(int=2), "x", 1))
    image.write_contents(witness=check)
    assert check.complete
    return check


def test_whole_objects_are_found_to_be_whole(tmp_path: Path, objects: dict[str, str]) -> None:
    assert len(objects) == 7
    assert checked(tmp_path).wrong == set()


@pytest.mark.parametrize(
    "kind", ["file", "attributed", "empty", "large", "holes", "link", "dirmeta"]
)
def test_a_changed_object_is_found(tmp_path: Path, objects: dict[str, str], kind: str) -> None:
    path = tmp_path / "tree" / OBJECTS / objects[kind]
    if kind == "link":
        path.unlink()
        path.symlink_to("targeT")
    else:
        with path.open("r+b") as file:
            file.seek(MIB + 70_000 if kind in {"large", "holes"} else 0)
            file.write(b"X")
    assert checked(tmp_path).wrong == {objects[kind]}


@pytest.mark.parametrize("kind", ["file", "attributed", "link"])
def test_another_owner_is_found(tmp_path: Path, objects: dict[str, str], kind: str) -> None:
    os.lchown(tmp_path / "tree" / OBJECTS / objects[kind], 7, 7)
    assert checked(tmp_path).wrong == {objects[kind]}


def test_names_elsewhere_do_not_hide_an_object(tmp_path: Path, objects: dict[str, str]) -> None:
    path = tmp_path / "tree" / OBJECTS / objects["file"]
    (tmp_path / "tree/aaa").hardlink_to(path)
    path.write_bytes(b"another")
    assert checked(tmp_path).wrong == {objects["file"]}
