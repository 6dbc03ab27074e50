import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.onhost.process import run
from bootc_build.tools import containers_storage, skopeo
from bootc_build.tools.buildah import image_id, remove_image, working_container
from bootc_build.tools.containers_storage import UnknownStorageError, find_image


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
    index = json.loads((layout / "index.json").read_text())
    manifest = index["manifests"][0]["digest"].removeprefix("sha256:")
    found = {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
    found.pop(manifest)
    return found


def test_layout_has_the_same_layers_and_configuration_as_skopeos(
    image: str, tmp_path: Path
) -> None:
    seen = 0

    def count(more: int) -> None:
        nonlocal seen
        seen += more

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    found = find_image(image)
    containers_storage.export_uncompressed(found, ours, "image", count)
    skopeo.export_uncompressed(image, theirs, "image")
    assert blobs(ours) == blobs(theirs)
    assert len(blobs(ours)) == 3
    assert seen == found.size
    manifests = [
        json.loads(run(["skopeo", "inspect", "--raw", f"oci:{layout}:image"]).stdout)
        for layout in (ours, theirs)
    ]
    assert manifests[0]["layers"] == manifests[1]["layers"]
    assert manifests[0]["config"] == manifests[1]["config"]


def test_a_changed_layer_is_refused_and_leaves_no_layout(image: str, tmp_path: Path) -> None:
    found = find_image(image)
    root = tmp_path / "storage"
    for layer in found.layers:
        for part in (f"overlay/{layer.id}/diff", f"overlay-layers/{layer.id}.tar-split.gz"):
            (root / part).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (found.root / part).is_dir() else shutil.copy
            copy(found.root / part, root / part)
    hole = next(root.glob("overlay/*/diff/new/hole"))
    hole.write_bytes(b"x" * hole.stat().st_size)
    with pytest.raises(UnknownStorageError, match="has changed"):
        containers_storage.export_uncompressed(
            replace(found, root=root), tmp_path / "out", "image", lambda _more: None
        )
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_not_in_storage_is_not_found() -> None:
    with pytest.raises(UnknownStorageError):
        find_image("0" * 64)
