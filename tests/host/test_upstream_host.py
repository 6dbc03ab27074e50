"""A host that upstream bootc installed is read, upgraded, rolled back and cleaned up like one of our own.

Its layers are commits that ``ostree commit --tree=tar=`` made, whiteouts and all, without a word of ours; the merge
commit has upstream's metadata alone.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.sysroot import Sysroot, create_sysroot
from tests.host.invented_os import make_tree
from tests.host.pretend_boot import BOOTC, CHECKOUT, MENU_GENERATOR, PretendHost
from tests.onhost.oci_images import Entry, File, WrittenImage, write_image

_TRACKED = "oci:/tmp/image:image"
_GUARD = "ostree/container/baseimage/bootc/0"


@dataclass(frozen=True)
class UpstreamHost:
    """The host, and the bytes of its image's layers."""

    host: PretendHost
    layers: tuple[bytes, bytes]
    image: WrittenImage


def tar(tree: Path) -> bytes:
    command = [
        "tar",
        "--create",
        "--owner=0",
        "--group=0",
        "--sort=name",
        f"--directory={tree}",
        ".",
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


def lay(tree: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    return tree


def commit(sysroot: Sysroot, branch: str, *options: str) -> str:
    command = ["ostree", "commit", f"--repo={sysroot.repo.path}", f"--branch={branch}"]
    command += ["--no-bindings", "--owner-uid=0", "--owner-gid=0", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def version(number: str) -> dict[str, str]:
    return {"containers.bootc": "1", "org.opencontainers.image.version": number}


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UpstreamHost:
    """Version 1 is booted: a tree with /usr/share/gone, and a layer that removes it."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    scratch = tmp_path / "scratch"
    lower = tmp_path / "lower"
    make_tree(lower, version="1", kargs='kargs = ["old=1"]\n', etc="etc")
    lay(lower, {"usr/share/gone": "gone", "usr/share/stays": "stays"})
    upper = lay(tmp_path / "upper", {"usr/share/.wh.gone": "", "usr/share/added": "added"})
    layers = (tar(lower), tar(upper))
    path = tmp_path / "sysroot"
    path.mkdir()
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    image = write_image(scratch / "tmp/image", layers, compression="none", labels=version("1"))
    (lower / "etc").rename(lower / "usr/etc")
    for tree, digest in zip((lower, upper), image.layer_digests, strict=True):
        file = tmp_path / "layer.tar"
        file.write_bytes(tar(tree))
        commit(sysroot, layer_ref(digest), "--tar-autocreate-parents", f"--tree=tar={file}")
    (lower / "usr/share/gone").unlink()
    lay(lower, {"usr/share/added": "added"})
    documents = {
        "ostree.manifest-digest": image.manifest_digest,
        "ostree.manifest": image.blob(image.manifest_digest).read_text(),
        "ostree.container.image-config": image.blob(image.config_digest).read_text(),
        "ostree.importer.version": "0.15.3",
        "version": "1",
    }
    ref = image_ref(ImageReference.parse_transport_qualified(_TRACKED))
    merged = commit(
        sysroot,
        ref,
        *(f"--add-metadata-string={key}={value}" for key, value in documents.items()),
        f"--tree=dir={lower}",
    )
    sysroot.repo.set_ref(_GUARD, merged)
    sysroot.init_stateroot("default")
    origin = Origin.of_image(f"ostree-unverified-image:{_TRACKED}").serialise()
    kargs = ("root=UUID=r", "rw", "old=1", "mine=1")
    sysroot.deploy(stateroot="default", commit=merged, origin=origin, kargs=kargs)
    (path / ".bootc-aleph.json").write_text('{"image": "oci:/tmp/image:image", "version": "1"}')
    (path / "ostree/bootc/storage").mkdir(parents=True)
    generator = str(CHECKOUT / MENU_GENERATOR)
    subprocess.run([generator, "-o", str(path / "boot/loader/grub.cfg")], check=True)
    return UpstreamHost(PretendHost(path, scratch), layers, image)


def publish(upstream: UpstreamHost, number: str, *more: Entry) -> WrittenImage:
    """Another version: the same two layers, and one on top."""
    kargs = File("usr/lib/bootc/kargs.d/10-test.toml", data=f'kargs = ["new={number}"]'.encode())
    layers: list[bytes | list[Entry]] = [*upstream.layers, [kargs, *more]]
    where = upstream.host.scratch / "tmp/image"
    return write_image(where, layers, compression="none", labels=version(number))


def refs(host: PretendHost) -> set[str]:
    listed = host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--list")
    return set(listed.stdout.split())


def test_what_upstream_wrote_is_read(upstream: UpstreamHost) -> None:
    document = json.loads(upstream.host.bootc("status", "--json"))
    assert document["spec"]["image"] == {"image": "/tmp/image:image", "transport": "oci"}
    assert document["status"]["type"] == "bootcHost"
    image = document["status"]["booted"]["image"]
    assert image["version"] == "1"
    assert image["imageDigest"] == upstream.image.manifest_digest
    assert image["timestamp"] == "2026-01-02T03:04:05Z"
    found = json.loads(upstream.host.bootc("internals", "fsck", "--format=json"))
    assert found["ok"], found
    assert "No update available." in upstream.host.bootc("upgrade")


def test_only_the_new_layer_is_fetched_and_whiteouts_of_the_old_ones_count(
    upstream: UpstreamHost,
) -> None:
    host = upstream.host
    new = publish(upstream, "2", File("usr/share/two", data=b"2"))
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 0, done.stderr
    assert done.stderr.count("Fetching layer") == 1
    assert host.status()["staged"]["image"]["imageDigest"] == new.manifest_digest
    host.reboot()
    share = host.root / "usr/share"
    assert sorted(each.name for each in share.iterdir()) == ["added", "stays", "two"]
    assert (host.root / "etc/colour").read_text() == "image\n"
    options = host.entries()[0]["options"].split()
    assert [each for each in options if not each.startswith("ostree=")] == [
        "root=UUID=r", "rw", "mine=1", "new=2",
    ]  # fmt: skip
    assert host.execute("ostree", "fsck", "--quiet", "--repo=/sysroot/ostree/repo").status == 0
    host.bootc("rollback")
    host.reboot()
    assert host.status()["booted"]["image"]["imageDigest"] == upstream.image.manifest_digest
    assert (host.root / "usr/share/added").read_text() == "added"


def test_what_upstream_left_goes_when_no_deployment_needs_it(upstream: UpstreamHost) -> None:
    host = upstream.host
    for number in ("2", "3"):
        publish(upstream, number)
        host.bootc("upgrade")
        assert _GUARD in refs(host), "it is the booted one, or the rollback"
        host.reboot()
    host.bootc("upgrade")
    assert _GUARD not in refs(host)
    blobs = {ref for ref in refs(host) if ref.startswith("ostree/container/blob/")}
    assert {layer_ref(digest) for digest in upstream.image.layer_digests} < blobs
    assert len(blobs) == 4
