import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.onhost.process import run
from bootc_build.tools import skopeo
from bootc_build.tools.buildah import image_id, remove_image, working_container
from bootc_build.tools.containers_storage import UnknownStorageError, find_image, served_layout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Id of an image of two layers with what is hard in a tar: links, holes, odd and long names."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("plain", "ä" * 60, "long" * 30, "b\udcff"):
        (folder / name).write_bytes(os.urandom(70_000))
    (folder / "link").symlink_to("plain")
    (folder / "hard").hardlink_to(folder / "plain")
    with (folder / "hole").open("wb") as file:
        file.truncate(3_000_000)
    base = f"localhost/bootc-build-test/storage-{secrets.token_hex(4)}:1"
    derived = base.replace(":1", ":2")
    for tag, origin, content in ((base, "scratch", folder), (derived, base, folder / "hole")):
        with working_container(origin) as container:
            run(["buildah", "copy", "--quiet", container.name, str(content), "/new/"])
            container.commit(tag)
    yield image_id(derived)
    remove_image(derived)
    remove_image(base)


def blobs(layout: Path) -> dict[str, bytes]:
    """Blobs by digest, without the manifest (whose JSON may be written in more than one way)."""
    digest = manifest_digest(layout)
    return {
        path.name: path.read_bytes()
        for path in (layout / "blobs/sha256").iterdir()
        if path.name != digest
    }


def manifest_digest(layout: Path) -> str:
    index = json.loads((layout / "index.json").read_text())
    return str(index["manifests"][0]["digest"]).removeprefix("sha256:")


def manifest(layout: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        (layout / "blobs/sha256" / manifest_digest(layout)).read_text()
    )
    return found


def test_layout_has_the_same_layers_and_configuration_as_skopeos(
    image: str, tmp_path: Path
) -> None:
    seen: list[int] = []
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    found = find_image(image)
    skopeo.export_uncompressed(image, theirs, "image")
    with served_layout(found, ours, "image", seen.append):
        assert blobs(ours) == blobs(theirs)
    assert sum(seen) == found.size
    assert len(found.layers) == 2
    for key in ("layers", "config"):
        assert manifest(ours)[key] == manifest(theirs)[key]


def test_layers_that_nobody_reads_or_reads_to_the_end_hold_nothing_up(
    image: str, tmp_path: Path
) -> None:
    before = threading.active_count()
    found = find_image(image)
    with served_layout(found, tmp_path / "out", "image", lambda _more: None):
        name = found.layers[0].diff_id.removeprefix("sha256:")
        with (tmp_path / "out/blobs/sha256" / name).open("rb", buffering=0) as fifo:
            assert fifo.read(10)
    assert threading.active_count() == before


def test_a_layer_that_storage_lost_is_why_the_reader_failed(image: str, tmp_path: Path) -> None:
    found = find_image(image)
    gone = replace(found, root=tmp_path / "storage")

    def read_and_fail() -> None:
        with served_layout(gone, tmp_path / "out", "image", lambda _more: None):
            assert set(blobs(tmp_path / "out").values()) == {b"", found.config}
            run(["false"])

    with pytest.raises(UnknownStorageError, match="FileNotFoundError"):
        read_and_fail()


def test_an_image_that_is_not_in_storage_is_not_found() -> None:
    with pytest.raises(UnknownStorageError):
        find_image("0" * 64)
