"""Pulling from a real registry on loopback."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.oci.fetch_errors import FetchError, ImageNotFoundError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.metadata import load_image_metadata
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import probe, pull, restore
from bootc_build.vm.registry import Registry
from tests.onhost.oci_images import Dir, Entry, File, WrittenImage, write_image


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def plain_http(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's skopeo may speak to the registry without TLS."""
    path = tmp_path / "home/.config/containers/registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def push(registry: Registry, image: WrittenImage, name: str) -> ImageReference:
    where = f"{registry.address}/{name}"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", image.skopeo]
    subprocess.run([*copy, f"docker://{where}"], check=True)
    return ImageReference("registry", where)


@pytest.mark.usefixtures("plain_http")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_image_of_a_registry_arrives(
    registry: Registry, repo: Repo, tmp_path: Path, compression: str
) -> None:
    layers: list[list[Entry]] = [[Dir("usr"), File("usr/a", data=b"1" * 5000)], [File("usr/b")]]
    written = write_image(tmp_path / "layout", layers, compression=compression)
    image = push(registry, written, f"{compression}/os:1")
    result = pull(repo, image, progress=Silent())
    assert result.manifest_digest == written.manifest_digest
    assert repo.resolve_ref(image_ref(image)) == result.merge_commit
    command = ["ostree", f"--repo={repo.path}", "cat", result.merge_commit, "/usr/a"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"1" * 5000


@pytest.mark.usefixtures("plain_http")
def test_an_image_is_restored_from_another_compression_of_it(
    registry: Registry, repo: Repo, tmp_path: Path
) -> None:
    """As on a machine that was installed from elsewhere than the registry that it follows."""
    layers: list[list[Entry]] = [[Dir("usr"), File("usr/a", data=b"1" * 5000)], [File("usr/b")]]
    first = write_image(tmp_path / "first", layers, compression="gzip")
    done = pull(repo, push(registry, first, "installed/os:1"), progress=Silent())
    known = load_image_metadata(repo, done.merge_commit)
    assert known is not None
    second = write_image(tmp_path / "second", layers, compression="zstd")
    image = push(registry, second, "followed/os:1")
    whole = {each for each in (repo.path / "objects").glob("*/*.file") if each.stat().st_size}

    def take_out() -> None:
        repo.set_ref(layer_ref(done.manifest.layers[0].digest), None)
        for each in whole:
            each.unlink()

    commit = restore(repo, image, known, timestamp=0, before=take_out, progress=Silent())
    assert commit == done.merge_commit
    assert whole
    assert all(each.exists() for each in whole)
    assert repo.resolve_ref(image_ref(image)) is None


@pytest.mark.usefixtures("plain_http")
def test_a_moved_tag_is_seen(registry: Registry, tmp_path: Path) -> None:
    first = write_image(tmp_path / "layout", [[File("usr/a")]], tag="1")
    second = write_image(tmp_path / "layout", [[File("usr/b")]], tag="2")
    image = push(registry, first, "moving/os:latest")
    assert probe(image).manifest_digest == first.manifest_digest
    push(registry, second, "moving/os:latest")
    assert probe(image).manifest_digest == second.manifest_digest


@pytest.mark.usefixtures("plain_http")
def test_a_missing_tag_is_told_from_a_missing_registry(registry: Registry) -> None:
    with pytest.raises(ImageNotFoundError, match="none/os:1"):
        probe(ImageReference("registry", f"{registry.address}/none/os:1"))


def test_a_registry_without_tls_needs_to_be_declared(registry: Registry) -> None:
    with pytest.raises(FetchError, match="does not speak TLS") as caught:
        probe(ImageReference("registry", f"{registry.address}/none/os:1"))
    assert "registries.conf.d" in caught.value.remedy
