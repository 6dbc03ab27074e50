"""Logically bound images: which there are, and that a real podman fetches, keeps and removes them."""

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.bound.spec import bound_images, parse_unit
from bootc_build.onhost.bound.storage import BoundStorage
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.bound import images_of
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.image_tree import RootTree
from bootc_build.onhost.ostree.sysroot import create_sysroot
from bootc_build.vm.registry import Registry
from tests.host.invented_os import commit_image, make_tree, write_image
from tests.host.pretend_boot import BOOTC, CHECKOUT, MENU_GENERATOR, PretendHost

APP = "localhost/bootc-build-test/bound-app"


def bind(tree: Path, name: str, text: str, *, place: str = "usr/share/containers/systemd") -> None:
    (tree / place).mkdir(parents=True, exist_ok=True)
    (tree / place / name).write_text(text)
    links = tree / "usr/lib/bootc/bound-images.d"
    links.mkdir(parents=True, exist_ok=True)
    (links / name).symlink_to(f"/{place}/{name}")


def test_images_of_both_kinds_of_files_are_bound(tmp_path: Path) -> None:
    bind(tmp_path, "b.image", "[Image]\n# a comment\nImage=quay.io/a/b:1\n")
    bind(tmp_path, "a.container", "[Unit]\nImage=no\n[Container]\nImage = quay.io/%%a:2\n")
    bind(tmp_path, "c.image", "[Image]\nImage=quay.io/a/b:1\n")
    assert bound_images(RootTree(tmp_path)) == ("quay.io/%a:2", "quay.io/a/b:1")


def test_nothing_is_bound_without_the_directory(tmp_path: Path) -> None:
    assert bound_images(RootTree(tmp_path)) == ()


def test_last_value_counts_and_lines_can_be_continued() -> None:
    text = "[A]\nx=1\nx=two \\\nwords\n; no\n[B]\nx=3\n"
    assert parse_unit(text) == {("A", "x"): "two  words", ("B", "x"): "3"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.image", "[Image]\n", "has no Image= in [Image]"),
        ("a.container", "[Image]\nImage=x\n", "has no Image= in [Container]"),
        ("a.image", "[Image]\nImage=quay.io/a:%i\n", "specifiers are not supported"),
        ("a.image", "[Image]\nImage=quay.io/a:%\n", "specifiers are not supported"),
        ("a.image", "[Image]\nImage=x\nAuthFile=/x\n", "AuthFile= is not supported"),
        ("a.container", "[Container]\nImage=b.image\n", "names another quadlet file"),
        ("a.network", "", "neither in .image nor in .container"),
    ],
)
def test_files_that_cannot_be_bound_are_named(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    bind(tmp_path, name, text)
    with pytest.raises(UserError) as caught:
        bound_images(RootTree(tmp_path))
    assert said in caught.value.fact
    assert f"/usr/lib/bootc/bound-images.d/{name}" in caught.value.fact


def test_links_have_to_be_links_and_lead_somewhere(tmp_path: Path) -> None:
    links = tmp_path / "usr/lib/bootc/bound-images.d"
    links.mkdir(parents=True)
    (links / "a.image").symlink_to("./nowhere")
    with pytest.raises(UserError, match="leads to nowhere, which is not there"):
        bound_images(RootTree(tmp_path))
    (links / "a.image").unlink()
    (links / "a.image").symlink_to("a.image")
    with pytest.raises(UserError, match="circle"):
        bound_images(RootTree(tmp_path))
    (links / "a.image").unlink()
    (links / "a.image").write_text("[Image]\nImage=x\n")
    with pytest.raises(UserError, match="is not a symbolic link"):
        bound_images(RootTree(tmp_path))


def test_absolute_links_stay_inside_and_etc_of_a_commit_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    tree = tmp_path / "tree-1"
    make_tree(tree, version="1")
    bind(tree, "a.image", "[Image]\nImage=quay.io/a:1\n")
    # As seen from the booted system: the link says /etc, the commit has usr/etc.
    (tree / "usr/etc/containers/systemd").mkdir()
    (tree / "usr/etc/containers/systemd/b.container").write_text("[Container]\nImage=quay.io/b:1\n")
    (tree / "usr/lib/bootc/bound-images.d/b.container").symlink_to(
        "../../../../etc/containers/systemd/b.container"
    )
    (tmp_path / "sysroot").mkdir()
    sysroot = create_sysroot(tmp_path / "sysroot", {})
    command = ["ostree", "commit", f"--repo={tmp_path}/sysroot/ostree/repo", "--orphan"]
    done = subprocess.run(
        [*command, f"--tree=dir={tree}"], check=True, capture_output=True, text=True
    )
    assert images_of(sysroot, done.stdout.strip()) == ("quay.io/a:1", "quay.io/b:1")


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """A tiny container image in local storage."""
    container = subprocess.run(
        ["buildah", "from", "scratch"], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["buildah", "copy", "--quiet", container, "/bin/busybox", "/bin/"], check=True)
    subprocess.run(["buildah", "commit", "--quiet", "--rm", container, APP], check=True)
    yield APP
    subprocess.run(["podman", "rmi", "--force", APP], check=True, capture_output=True)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendHost:
    """Version 1 is booted, binds nothing and tracks ``oci:/tmp/image:image``."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    path = tmp_path / "sysroot"
    path.mkdir()
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    image = commit_image(tmp_path, sysroot.repo, version="1")
    sysroot.init_stateroot("default")
    origin = Origin.of_image("ostree-unverified-image:oci:/tmp/image:image").serialise()
    sysroot.deploy(stateroot="default", commit=image.merge_commit, origin=origin, kargs=("rw",))
    generator = str(CHECKOUT / MENU_GENERATOR)
    subprocess.run([generator, "-o", str(path / "boot/loader/grub.cfg")], check=True)
    return PretendHost(path, tmp_path / "scratch")


@pytest.mark.parametrize(("status", "absent"), [(1, True), (125, False)])
def test_image_is_absent_only_where_podman_says_so(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, absent: bool
) -> None:
    podman = tmp_path / "podman"
    podman.write_text(
        f'#!/bin/sh\ncase "$*" in *exists*) exit {status};; esac\necho no database >&2; exit 125\n'
    )
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/dev/null")
    if absent:
        assert BoundStorage().find("quay.io/a:1") is None
    else:
        # Or the clean-up would remove it from under the booted system.
        with pytest.raises(UserError, match="no database"):
            BoundStorage().find("quay.io/a:1")


def test_list_says_whom_it_waits_for(host: PretendHost) -> None:
    (host.sysroot / "ostree/bootc/storage").mkdir(parents=True)
    with (host.sysroot / "ostree/lock").open("w") as lock:
        # An open-file-description lock on the whole file, as libostree takes.
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, whole)
        with host.start(*BOOTC, "image", "list") as waiting:
            assert waiting.stderr is not None
            assert "waiting for its lock..." in waiting.stderr.readline()
            waiting.kill()


def test_image_that_podman_has_not_is_said_in_words(host: PretendHost) -> None:
    done = host.execute(*BOOTC, "image", "pull-from-default-storage", "localhost/none:1")
    assert done.status == 1
    assert "error: There is no image 'localhost/none:1' in podman's storage." in done.stderr
    assert "podman pull localhost/none:1" in done.stderr
    assert "bound" not in done.stderr
    assert "level=" not in done.stderr


def publish(host: PretendHost, version: str, *bound: str) -> None:
    def spoil(tree: Path) -> None:
        for number, image in enumerate(bound):
            bind(tree, f"{number}.image", f"[Image]\nImage={image}\n")

    write_image(host.scratch / "tmp/image", host.scratch, version=version, spoil=spoil)


def stored(host: PretendHost) -> list[str]:
    """Names in the storage that bootc owns."""
    said = host.bootc("image", "cmd", "list", "--format", "json")
    return sorted(name for image in json.loads(said or "[]") for name in image.get("Names") or ())


def test_bound_images_come_before_the_reboot_and_go_with_the_last_deployment(
    host: PretendHost, app: str, bootc_registry: Registry
) -> None:
    bootc_registry.push(app, "app:1")
    bound = f"{bootc_registry.address}/app:1"
    registries = host.root / "etc/containers/registries.conf.d"
    registries.mkdir()
    (registries / "test.conf").write_text(bootc_registry.configuration(bootc_registry.address))

    publish(host, "2", bound)
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 0, done.stderr
    assert f"Fetching bound image {bound}" in done.stderr
    assert stored(host) == [bound]
    # As on a real host: only who holds the lock may write there.
    look = "mount -o remount,bind,ro /sysroot && exec " + " ".join([*BOOTC, "image", "list"])
    done = host.execute("sh", "-c", look)
    assert done.status == 0, done.stderr
    assert bound in done.stdout
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"
    listed = json.loads(host.bootc("image", "list", "--type=host", "--format=json"))
    assert listed == [
        {"image_type": "host", "image": "oci:/tmp/image:image"},
        {"image_type": "unified", "image": bound},
    ]

    # No longer bound by the newest, but the one that runs still needs it.
    publish(host, "3")
    host.bootc("upgrade")
    assert stored(host) == [bound]
    host.reboot()
    publish(host, "4")
    host.bootc("upgrade")
    host.reboot()
    host.bootc("internals", "cleanup")
    assert stored(host) == []


def test_image_that_cannot_be_had_leaves_nothing_queued(
    host: PretendHost, bootc_registry: Registry
) -> None:
    registries = host.root / "etc/containers/registries.conf.d"
    registries.mkdir()
    (registries / "test.conf").write_text(bootc_registry.configuration(bootc_registry.address))
    publish(host, "2", f"{bootc_registry.address}/missing:1")
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert f"The system needs {bootc_registry.address}/missing:1" in done.stderr
    assert host.status()["staged"] is None


def test_booted_system_can_be_copied_to_podmans_storage(host: PretendHost, tmp_path: Path) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    (host.root / "etc/colour").write_text("changed here\n")
    said = host.bootc("image", "copy-to-storage", "--target=localhost/exported:2")
    assert "Pushed: localhost/exported:2 sha256:" in said
    # The storage is the pretended host's; what it holds is looked at by this machine's tools.
    root = host.sysroot / "ostree/deploy/default/var/lib/containers/storage"
    stored_as = f"containers-storage:[overlay@{root}+{tmp_path / 'run'}]localhost/exported:2"
    # The overlay driver leaves a mount behind, which would keep the folder from being removed.
    alone = ["unshare", "--mount"]
    config = subprocess.run(
        [*alone, "skopeo", "inspect", "--config", stored_as], check=True, capture_output=True
    ).stdout
    assert json.loads(config)["config"]["Labels"]["containers.bootc"] == "1"
    copy = [*alone, "skopeo", "copy", "--quiet", "--insecure-policy", stored_as]
    subprocess.run([*copy, f"dir:{tmp_path}/dir"], check=True)
    manifest = json.loads((tmp_path / "dir/manifest.json").read_text())
    (layer,) = manifest["layers"]
    blob = tmp_path / "dir" / layer["digest"].removeprefix("sha256:")
    listed = subprocess.run(["tar", "-tf", blob], check=True, capture_output=True, text=True)
    names = set(listed.stdout.splitlines())
    assert {"./etc/colour", "./usr/lib/version", "./usr/lib/modules/1.0/vmlinuz"} <= names
    assert not any(name.startswith("./usr/etc") for name in names)
    extract = ["tar", "-xOf", blob, "./etc/colour"]
    shown = subprocess.run(extract, check=True, capture_output=True, text=True).stdout
    assert shown == "image\n", "the image's file, not the machine's"
    assert not list((host.sysroot / "ostree/repo/tmp").glob("bootc-export-*"))
