"""The real registry program and real pushes."""

import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.process import CommandError, run
from bootc_build.tools.buildah import remove_image, working_container
from bootc_build.vm.registry import Registry

_IMAGE = "localhost/bootc-build-test/registry:one"


@pytest.fixture
def image() -> Iterator[str]:
    with working_container("scratch") as container:
        (container.mount() / "file").write_text("content")
        run(["buildah", "commit", "--quiet", container.name, _IMAGE])
    yield _IMAGE
    remove_image(_IMAGE)


def _manifest(registry: Registry, name: str, tag: str) -> tuple[str, dict[str, object]]:
    request = urllib.request.Request(
        f"http://{registry.address}/v2/{name}/manifests/{tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.headers["Docker-Content-Digest"], json.load(answer)


def test_a_pushed_image_can_be_fetched_under_its_digest(image: str, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        digest = registry.push(image, "os:stable")
        found, manifest = _manifest(registry, "os", "stable")
        assert digest == found
        assert manifest["layers"]


def test_a_layer_has_the_files_of_the_image(image: str, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.push(image, "os:stable")
        _, manifest = _manifest(registry, "os", "stable")
        layers = manifest["layers"]
        assert isinstance(layers, list)
        url = f"http://{registry.address}/v2/os/blobs/{layers[0]['digest']}"
        blob = tmp_path / "blob"
        with urllib.request.urlopen(url) as answer:
            blob.write_bytes(answer.read())
        with tarfile.open(blob, "r:gz") as tar:
            assert "file" in tar.getnames()


def test_nothing_is_left_when_it_ends(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        address = registry.address
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/v2/")


def test_two_registries_stand_side_by_side(tmp_path: Path) -> None:
    with Registry(tmp_path) as one, Registry(tmp_path) as two:
        assert one.port != two.port


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry, pytest.raises(CommandError, match="not known"):
        registry.push("localhost/bootc-build-test/is-not-there", "os")


def test_guests_are_told_the_hosts_address(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        assert registry.guest_reference("os:v1") == f"10.0.2.2:{registry.port}/os:v1"
        assert f'location = "10.0.2.2:{registry.port}"' in registry.guest_configuration()
