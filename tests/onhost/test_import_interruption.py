"""An import that is ended anywhere, and its memory."""

import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from bootc_build.onhost.oci.refnames import image_ref
from bootc_build.onhost.ostree.repo import Repo
from tests.onhost.importing import Counted, content, listing, pull_elsewhere, pulled, reference
from tests.onhost.oci_images import (
    File,
    write_image,
)


def test_an_interrupted_pull_goes_on_where_it_stopped(repo: Repo, tmp_path: Path) -> None:
    class Stop(Counted):
        def step(self, text: str) -> None:
            super().step(text)
            if "layer 3" in text:
                raise KeyboardInterrupt

    layers = [[File(f"usr/{i}", data=b"x" * i)] for i in range(4)]
    image = write_image(tmp_path / "layout", layers)
    with pytest.raises(KeyboardInterrupt):
        pulled(repo, image, Stop())
    progress = Counted()
    pulled(repo, image, progress)
    assert progress.fetched == 2


@pytest.mark.parametrize(
    "moment",
    [
        "staging:Staging._finish:2",  # written, but owner and mode are not set
        "staging:_write_or_skip:2",  # half a large file
        "importer:LayerTree.write:1",
        "importer:LayerTree.write:2",
        "objects:ObjectStore.write_commit:2",
        "objects:ObjectStore.set_ref:2",
        "merge_commit:merge_layers:1",
        "objects:ObjectStore.set_ref:3",
    ],
)
def test_a_killed_pull_leaves_nothing_half_and_the_next_one_ends(
    repo: Repo, tmp_path: Path, moment: str
) -> None:
    big = os.urandom(1_500_000)
    layers = [
        [File("usr/a", data=b"1", mode=0o755), File("usr/b", data=b"2"), File("usr/big", data=big)],
        [File("usr/c", data=b"3")],
    ]
    image = write_image(tmp_path / "layout", layers)
    assert pull_elsewhere(repo, image, moment).returncode == -signal.SIGKILL
    assert image_ref(reference(image)) not in repo.refs("ostree/container")
    subprocess.run(["ostree", f"--repo={repo.path}", "fsck", "--quiet"], check=True)
    # What others begin meanwhile takes the killed one's folder over.
    with repo.transaction():
        pass
    commit = pulled(repo, image).merge_commit
    assert listing(repo, commit)["/usr/a"] == "-00755 0 0 1"
    assert content(repo, commit, "/usr/big") == big


def test_memory_stays_flat_whatever_the_files_size(repo: Repo, tmp_path: Path) -> None:
    big = tmp_path / "big.tar"
    with big.open("wb") as out:
        info = tarfile.TarInfo("usr/big")
        info.size = 400_000_000
        out.write(info.tobuf())
        out.truncate(512 + info.size + (-info.size % 512) + 1024)
    image = write_image(tmp_path / "layout", [big.read_bytes()], compression="gzip")
    done = pull_elsewhere(repo, image)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
