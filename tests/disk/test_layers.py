"""Layers that are imported once and kept for the next disk."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.disk.layer_cache import layer_objects
from bootc_build.disk.layer_cache.layers import BOUND_VARIABLE, importer_of, layer_shelf
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.layerstream import LayerStream
from bootc_build.onhost.ostree.importer import Layer, LayerTree, import_layer, read_layer
from bootc_build.onhost.ostree.repo import create_repo
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools import e2fsprogs
from bootc_build.tools.buildah import remove_image, working_container
from bootc_build.tools.sizes import GIB
from tests.disk.stand_in_image import make_stand_in_image
from tests.onhost.corner_cases import CAPABILITY
from tests.onhost.oci_images import Dir, File, Link, Symlink, tar_of

TARGET = parse_target("registry.example/os:v1")
ENTRIES = [
    Dir("usr/bin"),
    Dir("usr/share/own", mode=0o2750, uid=12, gid=34, pax={"SCHILY.xattr.user.dir": "yes"}),
    File("usr/bin/a", data=b"1" * 9000, mode=0o4755, uid=3, gid=4),
    File("usr/bin/able", data=b"2", pax={"SCHILY.xattr.security.capability": CAPABILITY}),
    File("usr/bin/large", data=os.urandom(900_000) + bytes(300_000)),
    File("usr/bin/empty"),
    File("usr/share/implied/deep", data=b"x"),
    Link("usr/bin/b", target="usr/bin/a"),
    Link("usr/bin/lower", target="usr/bin/below"),
    Symlink("usr/bin/link", target="a", uid=7, gid=8),
    File("usr/bin/.wh.gone"),
]


def stream_of(tar: bytes) -> LayerStream:
    pieces = iter([tar])
    return LayerStream(lambda _size: next(pieces, b""), "layer")


def layer_of(tar: bytes) -> Layer:
    digest = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    return Layer(digest, digest)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Objects of a layer, as they are kept."""
    tar = tar_of(ENTRIES)
    folder = tmp_path / "objects"
    folder.mkdir()
    with layer_objects.LayerObjects(folder) as store, stream_of(tar) as stream:
        read_layer(LayerTree(store, layer_of(tar)), stream, layer_of(tar))
    return folder


def test_objects_are_those_that_libostree_writes(tmp_path: Path, objects: Path) -> None:
    tar = tar_of(ENTRIES)
    repo = create_repo(tmp_path / "repo")
    with stream_of(tar) as stream:
        import_layer(repo, stream, layer_of(tar))
    theirs = tmp_path / "repo/objects"
    names = layer_objects.names(objects)
    assert len(names) > len(ENTRIES)
    assert names == layer_objects.names(theirs)
    for name in names:
        ours, other = (folder / name for folder in (objects, theirs))
        assert facts(ours) == facts(other), name
    [commit] = [name for name in names if name.endswith(".commit")]
    checksum = commit.removesuffix(".commit").replace("/", "")
    assert layer_objects.diff_id(objects, checksum) == layer_of(tar).diff_id


def facts(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    content = path.readlink() if path.is_symlink() else path.read_bytes()
    return status.st_mode, status.st_uid, status.st_gid, xattrs, content


def first(objects: Path, kind: str, condition: Callable[[Path], bool] = Path.exists) -> str:
    return next(
        name
        for name in layer_objects.names(objects)
        if name.endswith(kind) and condition(objects / name)
    )


def is_big(path: Path) -> bool:
    return not path.is_symlink() and path.stat().st_size == 9000


def is_able(path: Path) -> bool:
    return "security.capability" in os.listxattr(path, follow_symlinks=False)


def test_every_object_is_whole(objects: Path) -> None:
    assert all(layer_objects.is_whole(objects, name) for name in layer_objects.names(objects))


@pytest.mark.parametrize(
    ("kind", "condition", "damage"),
    [
        (".file", is_big, lambda path: path.write_bytes(b"1" * 8999 + b"2")),
        (".file", is_big, lambda path: path.chmod(0o755)),
        (".file", is_big, lambda path: os.chown(path, 3, 5)),
        (".file", is_big, lambda path: os.setxattr(path, "user.more", b"")),
        (".file", is_big, lambda path: os.truncate(path, 0)),
        (".file", is_able, lambda path: os.removexattr(path, "security.capability")),
        (".file", Path.is_symlink, lambda path: os.chown(path, 0, 0, follow_symlinks=False)),
        (".dirtree", Path.exists, lambda path: path.write_bytes(b"")),
        (".dirmeta", Path.exists, lambda path: path.write_bytes(path.read_bytes() + b"x")),
        (".commit", Path.exists, lambda path: os.truncate(path, 20)),
    ],
)
def test_what_became_of_an_object_is_seen(
    objects: Path, kind: str, condition: Callable[[Path], bool], damage: Callable[[Path], None]
) -> None:
    name = first(objects, kind, condition)
    damage(objects / name)
    assert not layer_objects.is_whole(objects, name)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image whose agent is this one, and whose installer says how it was called."""
    tag = f"localhost/bootc-build-test/layers-{secrets.token_hex(4)}:1"
    make_stand_in_image(tag, tmp_path_factory.mktemp("image"), agent=True)
    yield tag
    remove_image(tag)


@pytest.fixture
def request_(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskRequest:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return DiskRequest(
        image, [DiskType.RAW], tmp_path / "out", size=2 * GIB, target=TARGET, manifest=False
    )


class Steps(Silent):
    """Remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    @property
    def imported(self) -> int:
        return sum(step.startswith("Importing layer") for step in self.steps)


def got_layers(request: DiskRequest, progress: Silent | None = None) -> bool:
    """Make a disk; whether its installer was given layers."""
    [disk] = build_disk(request, progress or Silent())
    table = json.loads(run(["sfdisk", "--json", str(disk.path)]).stdout)["partitiontable"]
    start, sectors = (table["partitions"][-1][key] for key in ("start", "size"))
    slot = e2fsprogs.Ext4Slot(disk.path, start * 512, sectors * 512)
    return "--imported-layers" in e2fsprogs.read_file(slot, "/arguments")


def test_a_layer_is_imported_for_the_first_disk_only(request_: DiskRequest, image: str) -> None:
    first_time, second_time, changed = Steps(), Steps(), Steps()
    assert got_layers(request_, first_time)
    assert got_layers(request_, second_time)
    assert (first_time.imported, second_time.imported) == (1, 0)
    with working_container(image) as container:
        container.run(["sh", "-c", "echo changed > /usr/share/changed"])
        container.commit(f"{image}-changed")
    try:
        assert got_layers(replace(request_, image=f"{image}-changed"), changed)
    finally:
        remove_image(f"{image}-changed")
    assert changed.imported == 1


def test_nothing_is_kept_of_an_image_where_it_is_not_wanted(request_: DiskRequest) -> None:
    assert not got_layers(replace(request_, layer_cache=False))
    assert layer_shelf().things() == []


def test_layers_stay_away_where_the_bound_leaves_no_room(
    request_: DiskRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BOUND_VARIABLE, "1M")
    assert not got_layers(request_)
    assert layer_shelf().things() == []


def test_an_image_with_another_importer_imports_by_itself(
    request_: DiskRequest, image: str
) -> None:
    place = "/usr/lib/bootc/python/bootc_build/onhost/ostree/importer.py"
    with working_container(image) as container:
        container.run(["sh", "-c", f"echo '# Another.' >> {place}"])
        assert importer_of(container.mount() / "usr/lib/bootc/python/bootc_build")
        container.commit(f"{image}-other")
    try:
        assert not got_layers(replace(request_, image=f"{image}-other"))
    finally:
        remove_image(f"{image}-other")
    assert layer_shelf().things() == []


def test_a_damaged_object_leads_to_a_disk_without_the_cache(request_: DiskRequest) -> None:
    got_layers(request_)
    [kept] = layer_shelf().things()
    damaged = kept.path / "objects" / first(kept.path / "objects", ".file", is_regular)
    damaged.write_bytes(b"what a power cut left")
    again = Steps()
    assert not got_layers(request_, again)
    assert any("were damaged" in step for step in again.steps)
    assert layer_shelf().things() == []
    assert got_layers(request_)


def test_an_installer_that_takes_no_layers_imports_by_itself(request_: DiskRequest) -> None:
    steps = Steps()
    assert not got_layers(replace(request_, kargs=("stand-in=old",)), steps)
    assert any("takes no imported layers" in step for step in steps.steps)


def is_regular(path: Path) -> bool:
    return not path.is_symlink() and path.stat().st_size > 0


@pytest.mark.parametrize("lost", ["objects", "layer.json", "a name"])
def test_a_layer_of_which_something_is_lost_is_imported_anew(
    request_: DiskRequest, lost: str
) -> None:
    got_layers(request_)
    [kept] = layer_shelf().things()
    if lost == "a name":
        (kept.path / "objects" / first(kept.path / "objects", ".file")).unlink()
    else:
        (kept.path / lost).rename(kept.path / "elsewhere")
    again = Steps()
    assert got_layers(request_, again)
    assert again.imported == 1


def test_a_failing_installer_leaves_whole_layers_in_the_cache(request_: DiskRequest) -> None:
    with pytest.raises(UserError, match="the installer says why"):
        build_disk(replace(request_, kargs=("stand-in=fail",)), Silent())
    [kept] = layer_shelf().things()
    assert not kept.in_use
