"""What is refused, and in which words."""

import errno
import os
import tarfile
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.staging import Staging
from tests.onhost.importing import (
    Counted,
    pulled,
    reference,
)
from tests.onhost.oci_images import (
    Dir,
    Entry,
    File,
    Link,
    Special,
    Symlink,
    write_image,
)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (Special("usr/disk", kind=tarfile.BLKTYPE), "block device"),
        (Special("usr/tty", kind=tarfile.CHRTYPE), "character device"),
        (Special("usr/pipe", kind=tarfile.FIFOTYPE), "FIFO"),
        (File("usr/../../x"), r"'\.\.'"),
        (File("usr/bad\udcff"), "not UTF-8"),
        (Link("usr/l", target="usr/nowhere"), "which no layer below has"),
        (Link("usr/l", target="run/x"), "which is not kept"),
        (Link("usr/l", target="/../../etc/shadow"), r"'\.\.'"),
        (Symlink("usr/s", target=""), "empty or an overlong target"),
        (Symlink("usr/s", target="x" * 5000), "empty or an overlong target"),
        (File("usr/" + "n" * 256), "more than 255 bytes"),
        (File(""), "root of the tree must be a directory"),
    ],
)
def test_what_cannot_be_kept_names_layer_path_and_step(
    repo: Repo, tmp_path: Path, entry: Entry, problem: str
) -> None:
    image = write_image(
        tmp_path / "layout",
        [[Dir("usr")], [entry]],
        history=[{"created_by": "FROM x"}, {"created_by": "ENV a", "empty_layer": True},
                 {"created_by": "RUN make-trouble"}],
    )  # fmt: skip
    with pytest.raises(UserError, match=problem) as caught:
        pulled(repo, image)
    assert "Layer 2 of 2" in caught.value.fact
    assert image_ref(reference(image)) not in repo.refs("ostree/container")
    if "nowhere" not in problem and "below" not in problem:
        assert "RUN make-trouble" in caught.value.fact


def test_a_damaged_blob_leaves_nothing_that_refers_to_it(repo: Repo, tmp_path: Path) -> None:
    image = write_image(
        tmp_path / "layout", [[Dir("usr")], [File("usr/a", data=b"right")]], compression="none"
    )
    blob = image.blob(image.layer_digests[1])
    blob.write_bytes(blob.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(UserError, match=r"diff_id|corrupted"):
        pulled(repo, image)
    assert set(repo.refs("ostree/container")) == {layer_ref(image.layer_digests[0])}


def test_a_layer_that_is_not_the_configurations_is_refused(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]], diff_ids=["sha256:" + "0" * 64])
    with pytest.raises(UserError, match="diff_id"):
        pulled(repo, image)
    assert not repo.refs("ostree/container")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_truncated_layer_is_refused(repo: Repo, tmp_path: Path, compression: str) -> None:
    image = write_image(
        tmp_path / "layout", [[File("usr/a", data=os.urandom(100_000))]], compression=compression
    )
    blob = image.blob(image.layer_digests[0])
    blob.write_bytes(blob.read_bytes()[:50_000])
    with pytest.raises(UserError):
        pulled(repo, image)
    assert not repo.refs("ostree/container")


def test_an_image_that_is_no_operating_system_is_refused(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]], labels={})
    with pytest.raises(UserError, match="not labelled as a bootable image"):
        pulled(repo, image)


def test_another_architecture_is_refused(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]], architecture="s390x")
    with pytest.raises(UserError, match="s390x"):
        pulled(repo, image)


def test_a_layer_larger_than_the_disk_is_refused_before_it_is_fetched(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "layout", [[File("usr/a", data=os.urandom(5000))]])
    monkeypatch.setattr(Repo, "free_bytes", lambda _self: 1000)
    progress = Counted()
    with pytest.raises(UserError, match="are free"):
        pulled(repo, image, progress)
    assert progress.fetched == 0


def test_a_disk_that_fills_up_is_told_from_a_bug(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    image = write_image(tmp_path / "layout", [[File("usr/a", data=b"1")]])
    monkeypatch.setattr(Staging, "write_file", full)
    with pytest.raises(UserError, match="No space left") as caught:
        pulled(repo, image)
    assert "Make room" in caught.value.remedy
    assert not repo.refs("ostree/container")
