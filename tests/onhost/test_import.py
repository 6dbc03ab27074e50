"""What becomes of the content of generated images, through the real skopeo into a real repository."""

import os
import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.pull import load_image_metadata
from tests.onhost.importing import content, imported, listing, pulled, reference
from tests.onhost.oci_images import Dir, File, Link, Special, Symlink, write_image


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


def test_whiteouts_and_opaque_directories(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [File("usr/a/1"), File("usr/a/2"), File("usr/b/1"), File("usr/c"), File("etc/old/x"), File("etc/y")],
        [File("usr/a/.wh.1"), File("usr/b/.wh..wh..opq"), File("usr/b/2"), File("usr/.wh.c"),
         File("etc/.wh.old"), File("etc/.wh.y")],
    )  # fmt: skip
    assert set(found) == {"/", "/usr", "/usr/a", "/usr/a/2", "/usr/b", "/usr/b/2", "/usr/etc"}


def test_an_opaque_root_leaves_nothing_of_the_layers_below(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo, tmp_path, [File("usr/a"), File("etc/b")], [File(".wh..wh..opq"), File("usr/c")]
    )
    assert set(found) == {"/", "/usr", "/usr/c"}


def test_an_opaque_etc_leaves_nothing_of_the_layers_below(repo: Repo, tmp_path: Path) -> None:
    found = imported(
        repo,
        tmp_path,
        [File("etc/a"), File("usr/keep")],
        [File("etc/.wh..wh..opq"), Dir("etc/d")],
    )
    assert set(found) == {"/", "/usr", "/usr/keep", "/usr/etc", "/usr/etc/d"}


def test_notes_of_aufs_are_no_files(repo: Repo, tmp_path: Path) -> None:
    found = imported(repo, tmp_path, [File(".wh..wh.aufs"), Dir("usr/.wh..wh.plnk"), File("usr/a")])
    assert set(found) == {"/", "/usr", "/usr/a"}


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
