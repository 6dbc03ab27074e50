"""Importing generated images through the real skopeo into a real repository."""

import errno
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import ClassVar

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.staging import Staging
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import PulledImage, load_image_metadata, probe, pull
from tests.onhost.oci_images import (
    Dir,
    Entry,
    File,
    Link,
    Special,
    Symlink,
    WrittenImage,
    write_image,
)


class Counted(Silent):
    """Remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    @property
    def fetched(self) -> int:
        return sum(step.startswith("Fetching layer") for step in self.steps)


def reference(image: WrittenImage) -> ImageReference:
    return ImageReference.parse_transport_qualified(image.skopeo)


def pulled(repo: Repo, image: WrittenImage, progress: Silent | None = None) -> PulledImage:
    return pull(repo, reference(image), progress=progress or Silent())


def listing(repo: Repo, commit: str) -> dict[str, str]:
    """Path to "mode uid gid size [-> target]", as ostree itself says."""
    text = subprocess.run(
        ["ostree", f"--repo={repo.path}", "ls", "-R", commit],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout
    result = {}
    for line in text.splitlines():
        mode, uid, gid, size, path = line.split(maxsplit=4)
        name, arrow, target = path.partition(" -> ")
        result[name] = f"{mode} {uid} {gid} {size}" + arrow + target
    return result


def content(repo: Repo, commit: str, path: str) -> bytes:
    command = ["ostree", f"--repo={repo.path}", "cat", commit, path]
    return subprocess.run(command, check=True, capture_output=True).stdout


def imported(repo: Repo, tmp_path: Path, *layers: list[Entry]) -> dict[str, str]:
    """The listing of an image with these layers."""
    image = write_image(tmp_path / "layout", layers)
    return listing(repo, pulled(repo, image).merge_commit)


@pytest.mark.parametrize("compression", ["gzip", "none", "zstd"])
def test_an_image_arrives_whole(repo: Repo, tmp_path: Path, compression: str) -> None:
    image = write_image(
        tmp_path / "layout",
        [
            [Dir("usr"), Dir("usr/lib", mode=0o711), File("usr/lib/a", data=b"1", uid=7, gid=8)],
            [File("usr/lib/b", data=b"2", mode=0o4755), Symlink("bin", target="usr/bin")],
        ],
        compression=compression,
    )
    result = pulled(repo, image)
    assert listing(repo, result.merge_commit) == {
        "/": "d00755 0 0 0",
        "/bin": "l00777 0 0 0 -> usr/bin",
        "/usr": "d00755 0 0 0",
        "/usr/lib": "d00711 0 0 0",
        "/usr/lib/a": "-00644 7 8 1",
        "/usr/lib/b": "-04755 0 0 1",
    }
    assert content(repo, result.merge_commit, "/usr/lib/b") == b"2"
    assert not result.already_present


def test_refs_and_metadata_are_upstreams(repo: Repo, tmp_path: Path) -> None:
    image = write_image(
        tmp_path / "layout", [[Dir("usr")]], labels={"containers.bootc": "1", "version": "9"}
    )
    result = pulled(repo, image)
    assert set(repo.refs("ostree/container")) == {
        layer_ref(image.layer_digests[0]),
        image_ref(reference(image)),
    }
    metadata = repo.commit_metadata(result.merge_commit)
    assert metadata["ostree.manifest-digest"] == image.manifest_digest
    assert set(metadata) == {
        "ostree.manifest-digest",
        "ostree.manifest",
        "ostree.container.image-config",
        "ostree.importer.version",
    }
    assert repo.commit_timestamp(result.merge_commit) == 1767323045
    read = load_image_metadata(repo, result.merge_commit)
    assert read is not None
    assert (read.version, read.architecture) == ("9", "amd64")
    assert read.manifest.layers[0].digest == image.layer_digests[0]


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


def test_whiteouts_and_opaque_directories(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [File("usr/a/1"), File("usr/a/2"), File("usr/b/1"), File("usr/c"), File("etc/old/x"), File("etc/y")],
        [File("usr/a/.wh.1"), File("usr/b/.wh..wh..opq"), File("usr/b/2"), File("usr/.wh.c"),
         File("etc/.wh.old"), File("etc/.wh.y")],
    )  # fmt: skip
    assert set(found) == {"/", "/usr", "/usr/a", "/usr/a/2", "/usr/b", "/usr/b/2", "/usr/etc"}


def test_whole_etc_can_be_removed_and_made_anew(repo: Repo, tmp_path: Path) -> None:
    found = imported(repo, tmp_path, [File("etc/a")], [File(".wh.etc")], [File("etc/b")])
    assert {path for path in found if "etc" in path} == {"/usr/etc", "/usr/etc/b"}


def test_every_change_of_kind(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [File("usr/file-dir"), Dir("usr/dir-file"), File("usr/dir-file/x"),
         Symlink("usr/link-dir", target="elsewhere"), File("usr/elsewhere/keep"),
         File("usr/file-link"), Dir("usr/dir-link"), File("usr/dir-link/x"),
         Symlink("usr/link-file", target="nowhere")],
        [File("usr/file-dir/x"), File("usr/dir-file", data=b"now a file"), File("usr/link-dir/x"),
         Symlink("usr/file-link", target="t"), Symlink("usr/dir-link", target="t"),
         File("usr/link-file", data=b"1")],
    )  # fmt: skip
    assert found["/usr/file-dir"].startswith("d")
    assert found["/usr/dir-file"] == "-00644 0 0 10"
    assert found["/usr/link-dir"].startswith("d")
    assert set(found) >= {"/usr/link-dir/x", "/usr/elsewhere/keep", "/usr/file-dir/x"}
    assert "/usr/elsewhere/x" not in found
    assert found["/usr/file-link"].endswith("-> t")
    assert found["/usr/dir-link"].endswith("-> t")
    assert found["/usr/link-file"] == "-00644 0 0 1"


def test_missing_parents_change_nobodys_mode(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [Dir("./", mode=0o700), Dir("usr", mode=0o711, uid=5), Dir("usr/lib", mode=0o750, gid=6)],
        [File("usr/lib/new/x")],
        [Dir("usr/lib", mode=0o2755, gid=9)],
    )
    assert found["/"] == "d00700 0 0 0"
    assert found["/usr"] == "d00711 5 0 0"
    assert found["/usr/lib"] == "d02755 0 9 0"
    assert found["/usr/lib/new"] == "d00755 0 0 0"


def test_hard_links_within_and_across_layers_and_through_etc(repo: Repo, tmp_path: Path) -> None:
    image = write_image(
        tmp_path / "layout",
        [
            [
                File("etc/a", data=b"one"),
                Link("etc/b", target="etc/a"),
                Link("usr/c", target="/etc/b"),
            ],
            [Link("usr/d/e", target="etc/a"), Link("etc/f", target="./usr/d/e"), File("etc/.wh.a")],
            [File("usr/c", data=b"changed")],
        ],
    )
    commit = pulled(repo, image).merge_commit
    for path in ("/usr/etc/b", "/usr/d/e", "/usr/etc/f"):
        assert content(repo, commit, path) == b"one"
    assert content(repo, commit, "/usr/c") == b"changed"
    assert "/usr/etc/a" not in listing(repo, commit)


def test_runtime_directories_lose_their_children(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [Dir("run"), File("run/lock/x"), Dir("tmp", mode=0o1777), File("tmp/x"), Dir("dev"),
         Special("dev/null"), Dir("proc"), Dir("sys"), File("var/lib/x"), Dir("usr")],
    )  # fmt: skip
    assert set(found) == {
        "/", "/run", "/tmp", "/dev", "/proc", "/sys", "/usr", "/var", "/var/lib", "/var/lib/x",
    }  # fmt: skip
    assert found["/tmp"] == "d01777 0 0 0"


def test_mount_points_that_buildah_left_empty_are_dropped(repo: Repo, tmp_path: Path) -> None:
    found = imported(repo, tmp_path, [File("etc/hostname"), File("etc/resolv.conf", data=b"x")])
    assert "/usr/etc/hostname" not in found
    assert "/usr/etc/resolv.conf" in found


def test_extended_attributes_and_capabilities(repo: Repo, tmp_path: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    pax = {
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.security.capability": capability.decode(),
    }
    image = write_image(
        tmp_path / "layout",
        [
            [
                File("usr/bin/ping", data=b"x", mode=0o755, pax=pax),
                Dir("usr/d", pax={"SCHILY.xattr.user.d": "1"}),
            ]
        ],
    )
    commit = pulled(repo, image).merge_commit
    out = tmp_path / "out"
    subprocess.run(["ostree", f"--repo={repo.path}", "checkout", commit, out], check=True)
    assert os.getxattr(out / "usr/bin/ping", "user.note") == b"hello"
    assert os.getxattr(out / "usr/bin/ping", "security.capability") == capability
    assert os.getxattr(out / "usr/d", "user.d") == b"1"


def test_long_and_foreign_names(repo: Repo, tmp_path: Path) -> None:
    long = "usr/" + "/".join(["d" * 100] * 3) + "/" + "n" * 200
    found = imported(repo, tmp_path, [File(long, data=b"1"), File("usr/grün/日本", data=b"2")])
    assert found["/" + long] == "-00644 0 0 1"
    assert found["/usr/grün/日本"] == "-00644 0 0 1"


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


PULL_IN_ANOTHER_PROCESS = r"""
import os, re, signal, sys
from pathlib import Path
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree import importer
from bootc_build.onhost.ostree.repo import open_repo
from bootc_build.onhost.ostree.staging import Staging
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull

if sys.argv[3:]:
    written = importer.LayerTree.write
    def die(tree):
        os.kill(os.getpid(), signal.SIGKILL)
    importer.LayerTree.write = die
pull(open_repo(Path(sys.argv[1])), ImageReference.parse_transport_qualified(sys.argv[2]), progress=Silent())
# Not ru_maxrss: that starts with what the parent had.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def pull_elsewhere(
    repo: Repo, image: WrittenImage, *extra: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PULL_IN_ANOTHER_PROCESS, str(repo.path), image.skopeo, *extra]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_killed_pull_leaves_nothing_and_the_next_one_ends(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[File("usr/a", data=b"1"), File("usr/b", data=b"2")]])
    assert pull_elsewhere(repo, image, "die").returncode == -signal.SIGKILL
    assert not repo.refs("ostree/container")
    assert not list(repo.path.glob("objects/*/*.file"))
    assert listing(repo, pulled(repo, image).merge_commit)["/usr/b"] == "-00644 0 0 1"


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


def test_the_same_and_empty_layers_are_fetched_once(repo: Repo, tmp_path: Path) -> None:
    layers: list[list[Entry]] = [[File("usr/a", data=b"1")], [], [], [File("usr/a", data=b"1")]]
    progress = Counted()
    result = pulled(repo, write_image(tmp_path / "layout", layers), progress)
    assert set(listing(repo, result.merge_commit)) == {"/", "/usr", "/usr/a"}
    assert progress.fetched == 2


def test_progress_counts_up_to_the_layers_size(repo: Repo, tmp_path: Path) -> None:
    class Watched(Silent):
        seen: ClassVar[list[tuple[int, int | None]]] = []

        def bytes_done(self, done: int, total: int | None) -> None:
            self.seen.append((done, total))

    image = write_image(tmp_path / "layout", [[File("usr/a", data=os.urandom(2_000_000))]])
    size = image.blob(image.layer_digests[0]).stat().st_size
    pulled(repo, image, Watched())
    assert len(Watched.seen) > 4
    assert Watched.seen == sorted(Watched.seen)
    assert Watched.seen[-1] == (size, size)


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


def test_the_target_names_the_ref(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[Dir("usr")]])
    target = ImageReference("registry", "registry.test/os:1")
    result = pull(repo, reference(image), progress=Silent(), target=target)
    assert repo.refs("ostree/container/image") == {image_ref(target): result.merge_commit}
