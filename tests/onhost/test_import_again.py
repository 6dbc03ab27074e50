"""What is not fetched again, and under which names an image is kept."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent, Transfer
from bootc_build.onhost.pull import probe, pull
from tests.onhost.importing import Counted, content, listing, pulled, reference
from tests.onhost.oci_images import Dir, Entry, File, write_image


def test_the_same_image_gives_the_same_commit(repo: Repo, tmp_path: Path) -> None:
    layers: list[list[Entry]] = [
        [Dir("usr"), File("usr/a", data=b"1")],
        [File("usr/b", data=b"2")],
    ]
    image = write_image(tmp_path / "layout", layers)
    first = pulled(repo, image)
    repo.set_ref(image_ref(reference(image)), None)
    again = pulled(repo, image)
    assert again.merge_commit == first.merge_commit
    assert not again.already_present


def test_probe_fetches_nothing(tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]])
    image.blob(image.layer_digests[0]).unlink()
    assert probe(reference(image)).manifest_digest == image.manifest_digest


def test_unchanged_layers_are_not_fetched_again(repo: Repo, tmp_path: Path) -> None:
    base = [Dir("usr"), File("usr/base", data=b"1")]
    pulled(repo, write_image(tmp_path / "layout", [base, [File("usr/a")]], tag="1"))
    progress = Counted()
    second = write_image(tmp_path / "layout", [base, [File("usr/b")]], tag="2")
    found = listing(repo, pulled(repo, second, progress).merge_commit)
    assert progress.fetched == 1
    assert set(found) == {"/", "/usr", "/usr/base", "/usr/b"}


def test_a_layer_compressed_again_is_not_fetched_again(repo: Repo, tmp_path: Path) -> None:
    layers: list[list[Entry]] = [[Dir("usr"), File("usr/a", data=b"1")]]
    pulled(repo, write_image(tmp_path / "one", layers, compression="gzip"))
    again = write_image(tmp_path / "two", [*layers, [File("usr/b")]], compression="none")
    progress = Counted()
    pulled(repo, again, progress)
    assert progress.fetched == 1
    assert layer_ref(again.layer_digests[0]) in repo.refs("ostree/container/blob")


def test_the_same_configuration_means_already_present(repo: Repo, tmp_path: Path) -> None:
    layers = [[Dir("usr"), File("usr/a", data=b"1")]]
    first = pulled(repo, write_image(tmp_path / "layout", layers, compression="gzip"))
    again = pulled(repo, write_image(tmp_path / "layout", layers, compression="none"))
    assert again.already_present
    assert (again.merge_commit, again.manifest_digest) == (
        first.merge_commit,
        first.manifest_digest,
    )


def test_the_same_and_empty_layers_are_fetched_once(repo: Repo, tmp_path: Path) -> None:
    layers: list[list[Entry]] = [[File("usr/a", data=b"1")], [], [], [File("usr/a", data=b"1")]]
    progress = Counted()
    result = pulled(repo, write_image(tmp_path / "layout", layers), progress)
    assert set(listing(repo, result.merge_commit)) == {"/", "/usr", "/usr/a"}
    assert progress.fetched == 2


def test_progress_counts_layers_and_bytes_and_never_back(repo: Repo, tmp_path: Path) -> None:
    class Watched(Silent):
        def __init__(self) -> None:
            self.seen: list[Transfer] = []

        def transfer(self, state: Transfer) -> None:
            self.seen.append(state)

    here = [File("usr/here", data=b"1")]
    layers = [[File(f"usr/{i}", data=os.urandom(8_000_000))] for i in range(2)]
    pulled(repo, write_image(tmp_path / "layout", [here], tag="1"))
    image = write_image(tmp_path / "layout", [here, *layers], tag="2")
    sizes = [image.blob(digest).stat().st_size for digest in image.layer_digests]
    watched = Watched()
    pulled(repo, image, watched)
    first, last = watched.seen[0], watched.seen[-1]
    assert (first.layers_cached, first.bytes_cached) == (1, sizes[0])
    assert (first.layers_total, first.bytes_total) == (2, sum(sizes[1:]))
    assert (first.layers_done, first.bytes_done) == (0, 0)
    assert first.running[0].digest == image.layer_digests[1]
    assert (last.layers_done, last.bytes_done, last.running) == (2, sum(sizes[1:]), ())
    assert first.manifest_digest == image.manifest_digest
    counts = [(state.layers_done, state.bytes_done) for state in watched.seen]
    assert counts == sorted(counts)
    assert any(0 < done < sizes[1] for _layers, done in counts)


def test_the_target_names_the_ref(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]])
    target = ImageReference("registry", "registry.test/os:1")
    result = pull(repo, reference(image), progress=Silent(), target=target)
    assert repo.refs("ostree/container/image") == {image_ref(target): result.merge_commit}


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
def test_an_image_from_a_file_or_folder(transport: str, repo: Repo, tmp_path: Path) -> None:
    data = str(uuid4()).encode() * 300
    layout = write_image(tmp_path / "layout", [[Dir("usr"), File("usr/a", data=data)]])
    name = f"{tmp_path}/copy"
    if transport != "dir":
        name += ":localhost/os:1" if transport == "docker-archive" else ":tag"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", layout.skopeo, f"{transport}:{name}"]
    subprocess.run(copy, check=True)
    image = ImageReference.parse_cli(name, transport)
    assert ImageReference.parse_origin(image.to_origin()) == image
    result = pull(repo, image, progress=Silent())
    assert content(repo, result.merge_commit, "/usr/a") == data
    assert pull(repo, image, progress=Silent()).already_present
    assert _unpacked(layout.manifest_digest, data) == []


def _unpacked(digest: str, data: bytes) -> list[Path]:
    """What is left of an image where skopeo unpacks archives."""
    left = []
    for path in Path("/var/tmp").iterdir():
        with suppress(OSError):  # others come and go there
            if path.is_file() and path.stat().st_size < 100_000 and data in path.read_bytes():
                left.append(path)
            if path.is_dir() and list(path.glob(f"blobs/sha256/{digest.removeprefix('sha256:')}")):
                left.append(path)
    return left


def test_an_image_in_containers_storage(repo: Repo, tmp_path: Path) -> None:
    layout = write_image(tmp_path / "layout", [[Dir("usr"), File("usr/a", data=b"1" * 9000)]])
    root, run = tmp_path / "storage", tmp_path / "run"
    # A storage of its own: the user's is left alone.
    store = f"containers-storage:[vfs@{root}+{run}]"
    name = "localhost/bootc-build-test/import:1"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", layout.skopeo, store + name]
    subprocess.run(copy, check=True)
    image = ImageReference("containers-storage", f"[vfs@{root}+{run}]{name}")
    result = pull(repo, image, progress=Silent())
    assert content(repo, result.merge_commit, "/usr/a") == b"1" * 9000
