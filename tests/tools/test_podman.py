"""podman-py against the podman that is installed here, on tiny images in the real containers-storage."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import run
from bootc_build.tools.podman import ImageNotFoundError, ImageStore, image_store, split_tag


@pytest.fixture
def tag() -> str:
    return f"localhost/bootc-build-test/podman-{uuid.uuid4().hex[:12]}:v1"


@pytest.fixture
def image(tag: str, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "file").write_text("content")
    (tmp_path / "Containerfile").write_text(
        "FROM scratch\nCOPY file /file\nLABEL containers.bootc=1 org.opencontainers.image.version=7\n"
    )
    run(["buildah", "build", "--quiet", "--layers", "-t", tag, str(tmp_path)])
    yield tag
    run(["buildah", "rmi", "--force", tag], check=False)


@pytest.fixture
def store() -> Iterator[ImageStore]:
    with image_store() as opened:
        yield opened


def test_an_image_that_buildah_built_is_described(store: ImageStore, image: str) -> None:
    found = store.get(image)
    assert image in found.names
    assert found.digest.startswith("sha256:")
    assert len(found.id) == 64
    assert found.architecture in {"amd64", "arm64"}
    assert found.labels["containers.bootc"] == "1"
    assert found.is_bootc
    assert found.version == "7"
    assert len(found.layers) == 1
    assert found.size_bytes > 0
    assert found.created.tzinfo is not None
    assert any("COPY" in step.created_by for step in found.history if not step.empty_layer)


def test_short_names_and_ids_find_the_same_image(store: ImageStore, image: str) -> None:
    found = store.get(image)
    assert store.get(image.removeprefix("localhost/")).id == found.id
    assert store.get(found.id).digest == found.digest


@pytest.mark.parametrize("name", ["", ".", "..", "a/..", "/os:v1", "os//v1"])
def test_what_is_no_name_is_refused(store: ImageStore, name: str) -> None:
    for asked in (store.get, store.exists):
        with pytest.raises(UsageError, match="is not the name of an image"):
            asked(name)


def test_an_absent_image_is_named_with_the_remedy(store: ImageStore) -> None:
    assert not store.exists("bootc-build-test/nowhere:v2")
    with pytest.raises(ImageNotFoundError) as caught:
        store.get("bootc-build-test/nowhere:v2")
    assert caught.value.fact == "Image 'bootc-build-test/nowhere:v2' is not in local storage."
    assert "podman pull bootc-build-test/nowhere:v2" in caught.value.remedy


def test_a_name_that_is_no_name_is_a_user_error(store: ImageStore) -> None:
    with pytest.raises(UserError):
        store.get("UPPER CASE:::")


def test_removing_one_of_two_names_keeps_the_image(store: ImageStore, image: str) -> None:
    second = f"{image}b"
    store.tag(image, second)
    assert store.get(second).id == store.get(image).id
    store.remove(second)
    assert not store.exists(second)
    assert store.exists(image)
    store.remove(image)
    assert not store.exists(image)


def test_the_service_ends_with_the_block(image: str) -> None:
    def services() -> set[str]:
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                argv = (process / "cmdline").read_bytes().split(b"\0")
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if argv[1:3] == [b"system", b"service"] and int(parent) == os.getpid():
                found.add(process.name)
        return found

    with image_store() as opened:
        assert not services(), "nothing starts before the first question"
        assert opened.exists(image)
        assert services()
    assert not services()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("os:v1", ("localhost/os", "v1")),
        ("os", ("localhost/os", "latest")),
        ("localhost/os", ("localhost/os", "latest")),
        ("quay.io/a/b:1", ("quay.io/a/b", "1")),
        ("host:5000/os", ("host:5000/os", "latest")),
        ("team/os:v1", ("localhost/team/os", "v1")),
    ],
)
def test_a_name_is_split_into_repository_and_tag(name: str, expected: tuple[str, str]) -> None:
    assert split_tag(name) == expected
