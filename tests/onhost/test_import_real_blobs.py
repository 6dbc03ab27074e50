"""Layers as buildah and GNU tar really write them, in every compression."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull
from tests.onhost.importing import content, listing, pulled, reference
from tests.onhost.oci_images import Dir, File, write_image

SPARSE_BYTES = 3_000_000


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def built(storage: Path) -> Iterator[str]:
    """An image of two layers that buildah committed, in a storage of its own."""
    options = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
    buildah = ("buildah", *options, "--storage-driver", "vfs")

    def commit(source: str, fill: str) -> str:
        name = run(*buildah, "from", "--pull-never", source)
        root = run(*buildah, "mount", name)
        subprocess.run(["bash", "-euc", fill], cwd=root, check=True)
        config = ("--label", "containers.bootc=1", name)
        run(*buildah, "config", *config)
        image = run(*buildah, "commit", "-q", "--rm", name)
        return image.splitlines()[-1]

    lower = commit(
        "scratch",
        """mkdir -p usr/bin usr/lib/gone usr/lib/swap etc; chmod 0711 usr/lib
        head -c 300000 /dev/urandom > usr/bin/tool; chmod 4755 usr/bin/tool
        ln usr/bin/tool usr/bin/again; ln -s tool usr/bin/soft
        truncate -s 3000000 usr/lib/sparse; printf end >> usr/lib/sparse
        echo 1 > usr/lib/gone/x; echo 1 > usr/lib/swap/x; echo old > etc/conf; echo 1 > etc/gone
        printf x > "usr/lib/$(printf 'n%.0s' {1..200})" """,
    )
    upper = commit(
        lower,
        """rm -r usr/lib/gone usr/lib/swap etc/gone; echo file > usr/lib/swap; echo newer > etc/conf""",
    )
    yield upper
    subprocess.run([*buildah, "rmi", "--all", "--force"], check=True, capture_output=True)


@pytest.mark.parametrize(
    "compression",
    [
        ("--compression-format", "gzip"),
        ("--compression-format", "zstd"),
        ("--compression-format", "zstd:chunked"),
        ("--disable-compression",),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_buildahs_layers_arrive_whatever_their_compression(
    built: str, storage: Path, repo: Repo, tmp_path: Path, compression: tuple[str, ...]
) -> None:
    options = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
    layout = tmp_path / "layout"
    run(
        "buildah", *options, "--storage-driver", "vfs", "push", "-q", *compression,
        built, f"oci:{layout}:image",
    )  # fmt: skip
    image = ImageReference("oci", f"{layout}:image")
    commit = pull(repo, image, progress=Silent()).merge_commit
    found = listing(repo, commit)
    assert found["/usr/lib"] == "d00711 0 0 0"
    assert found["/usr/bin/tool"] == found["/usr/bin/again"] == "-04755 0 0 300000"
    assert found["/usr/bin/soft"].endswith("-> tool")
    assert found["/usr/lib/sparse"] == f"-00644 0 0 {SPARSE_BYTES + 3}"
    assert content(repo, commit, "/usr/lib/sparse")[-4:] == b"\0end"
    assert found["/usr/lib/" + "n" * 200] == "-00644 0 0 1"
    assert found["/usr/lib/swap"] == "-00644 0 0 5"
    assert content(repo, commit, "/usr/etc/conf") == b"newer\n"
    assert not {"/usr/lib/gone", "/usr/etc/gone", "/usr/lib/swap/x"} & set(found)


def test_zstd_chunked_is_what_buildah_wrote(built: str, storage: Path, tmp_path: Path) -> None:
    """Otherwise the test above would not meet a skippable frame at all."""
    options = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
    run(
        "buildah", *options, "--storage-driver", "vfs", "push", "-q",
        "--compression-format", "zstd:chunked", built, f"oci:{tmp_path}/layout:image",
    )  # fmt: skip
    blobs = [path.read_bytes() for path in (tmp_path / "layout/blobs/sha256").iterdir()]
    assert any(b"\x50\x2a\x4d\x18" in blob for blob in blobs if blob[:4] == b"\x28\xb5\x2f\xfd")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_gnu_tars_sparse_files_stay_holes(
    repo: Repo, tmp_path: Path, version: str, compression: str
) -> None:
    tree = tmp_path / "tree/usr"
    tree.mkdir(parents=True)
    with (tree / "sparse").open("wb") as file:
        for offset in (0, 900_000, 4_000_000):
            file.seek(offset)
            file.write(b"x" * 5000)
        file.truncate(9_000_000)
    kind = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    tar = subprocess.run(
        ["tar", "-C", tree.parent, "-S", *kind, "-c", "usr"], check=True, capture_output=True
    ).stdout
    assert len(tar) < 100_000
    image = write_image(tmp_path / "layout", [tar], compression=compression)
    commit = pulled(repo, image).merge_commit
    assert content(repo, commit, "/usr/sparse") == (tree / "sparse").read_bytes()
    out = tmp_path / "out"
    run("ostree", f"--repo={repo.path}", "checkout", "-H", commit, out)
    assert (out / "usr/sparse").stat().st_blocks * 512 < 2_000_000


def test_file_capabilities_of_a_real_tar_stay(repo: Repo, tmp_path: Path) -> None:
    tool = tmp_path / "tree/usr/tool"
    tool.parent.mkdir(parents=True)
    tool.write_bytes(b"x")
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    os.setxattr(tool, "security.capability", capability)
    tar = subprocess.run(
        ["tar", "-C", tmp_path / "tree", "--xattrs", "--xattrs-include=*", "-c", "usr"],
        check=True,
        capture_output=True,
    ).stdout
    commit = pulled(repo, write_image(tmp_path / "layout", [tar])).merge_commit
    run("ostree", f"--repo={repo.path}", "checkout", commit, tmp_path / "out")
    assert os.getxattr(tmp_path / "out/usr/tool", "security.capability") == capability


def test_a_layer_that_starts_with_a_skippable_frame_is_zstd(repo: Repo, tmp_path: Path) -> None:
    image = write_image(tmp_path / "layout", [[File("usr/a", data=b"1")]], compression="skippable")
    assert "/usr/a" in listing(repo, pulled(repo, image).merge_commit)


def test_a_layer_that_upstream_wrote_changes_nobodys_mode(repo: Repo, tmp_path: Path) -> None:
    """It does not say which directories it only goes through."""
    image = write_image(
        tmp_path / "layout", [[Dir("usr/lib", mode=0o711)], [File("usr/lib/x", data=b"1")]]
    )
    result = pulled(repo, image)
    ref = layer_ref(image.layer_digests[1])
    tree = ["--tree=ref=" + ref, "--no-bindings", "--owner-uid=0"]
    plain = run("ostree", f"--repo={repo.path}", "commit", "--branch=plain", *tree)
    repo.set_ref(ref, plain)
    repo.set_ref("plain", None)
    repo.set_ref(image_ref(reference(image)), None)
    again = pulled(repo, image)
    assert again.merge_commit == result.merge_commit
    assert listing(repo, again.merge_commit)["/usr/lib"] == "d00711 0 0 0"
