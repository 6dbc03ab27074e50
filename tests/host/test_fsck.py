"""`bootc internals fsck`: each kind of damage is found and named, and only what is safe is repaired."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.oci.refnames import layer_ref
from bootc_build.onhost.ostree.sysroot import Sysroot, create_sysroot
from tests.host.invented_os import commit_image

COMMIT = "a" * 64


@pytest.fixture
def sysroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysroot:
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    path = tmp_path / "sysroot"
    path.mkdir()
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    image = commit_image(tmp_path, sysroot.repo, version="1")
    sysroot.repo.set_ref(layer_ref(image.manifest.layers[0].digest), image.merge_commit)
    sysroot.init_stateroot("default")
    origin = Origin.of_image("ostree-unverified-registry:registry.example/os:1").serialise()
    sysroot.deploy(stateroot="default", commit=image.merge_commit, origin=origin, kargs=("rw",))
    return sysroot


def fsck(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, list[dict[str, object]]]]:
    status = main(["internals", "fsck", f"--sysroot={sysroot.path}", "--format=json", *more])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (status == 0)
    return status, {check["name"]: check["findings"] for check in document["checks"]}


def only(found: dict[str, list[dict[str, object]]], name: str) -> str:
    assert [each for each in found if found[each]] == [name]
    return "\n".join(str(each["message"]) for each in found[name])


def file_object(sysroot: Sysroot, path: str) -> Path:
    """Where the repository has the content of a deployed file."""
    inode = (sysroot.path / sysroot.deployments()[0].path / path).stat().st_ino
    objects = (sysroot.path / "ostree/repo/objects").glob("*/*.file")
    return next(each for each in objects if each.lstat().st_ino == inode)


def test_sound_system_passes_every_check(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = fsck(sysroot, capsys)
    assert status == 0
    assert not any(found.values())
    assert main(["internals", "fsck", f"--sysroot={sysroot.path}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok: {name}"
        for name in (
            "etc-resolvconf", "refs", "images", "layers", "objects", "boot-entries", "deployments",
        )
    ]  # fmt: skip


def test_missing_object_is_named_with_its_path(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = file_object(sysroot, "usr/lib/version")
    lost.unlink()
    status, found = fsck(sysroot, capsys)
    assert status == 1
    said = only(found, "objects")
    assert f"{lost.parent.name}{lost.name} is missing: /usr/lib/version of" in said


@pytest.mark.parametrize("damage", [b"", b"2", b"1 and more"])
def test_corrupt_and_truncated_objects_are_named(
    damage: bytes, sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    file_object(sysroot, "usr/lib/version").write_bytes(damage)
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert "is corrupt: /usr/lib/version of" in only(found, "objects")


def test_missing_directory_object_is_named(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = sysroot.path / "ostree/repo/objects"
    command = ["ostree", "ls", f"--repo={sysroot.path}/ostree/repo", "-C"]
    listed = subprocess.run(
        [*command, sysroot.deployments()[0].checksum, "/usr/lib"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    tree = listed.split()[4]
    (objects / tree[:2] / f"{tree[2:]}.dirtree").unlink()
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert f"{tree}.dirtree is missing: /usr/lib of" in "\n".join(
        str(each["message"]) for each in found["objects"]
    )


def test_ref_that_leads_nowhere_is_removed_on_demand_only(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = layer_ref(f"sha256:{'0' * 64}")
    heads = sysroot.path / "ostree/repo/refs/heads" / ref
    heads.write_text(f"{COMMIT}\n")
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert only(found, "refs") == f"The ref {ref} names commit {COMMIT}, which is missing"
    assert heads.exists()
    status, found = fsck(sysroot, capsys, "--repair")
    assert status == 0
    assert found["refs"][0]["repaired"] is True
    assert not heads.exists()
    assert not any(fsck(sysroot, capsys)[1].values())


def test_boot_entry_without_its_kernel_or_its_system_is_named(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = (sysroot.path / "boot/loader/entries").glob("*.conf")
    text = entry.read_text()
    entry.write_text(text.replace("/vmlinuz-1.0", "/vmlinuz-2.0"))
    assert "names a file that is not there: linux" in only(fsck(sysroot, capsys)[1], "boot-entries")
    entry.write_text(text.replace("ostree=/ostree/boot.", "ostree=/ostree/gone."))
    assert "is not a sysroot that can be opened" in only(fsck(sysroot, capsys)[1], "sysroot")


def test_half_a_deployment_is_removed_on_demand_only(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    half = sysroot.path / "ostree/deploy/default/deploy" / f"{COMMIT}.0"
    (half / "usr").mkdir(parents=True)
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert f"{COMMIT}.0 is no deployment" in only(found, "deployments")
    assert half.exists()
    status, found = fsck(sysroot, capsys, "--repair")
    assert (status, half.exists()) == (0, False)


def test_lost_origin_and_lost_layer_ref_are_told_apart(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = sysroot.path / "ostree/repo/refs/heads/ostree/container/blob"
    shutil.rmtree(layers)
    status, found = fsck(sysroot, capsys)
    assert status == 0, "what only has to be fetched again is no error"
    assert found["layers"][0]["severity"] == "warning"
    origin = next((sysroot.path / "ostree/deploy/default/deploy").glob("*.origin"))
    origin.unlink()
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert "has no origin file" in str(found["deployments"][0]["message"])


def test_empty_resolv_conf_of_buildah_is_found(
    sysroot: Sysroot, capsys: pytest.CaptureFixture[str]
) -> None:
    (sysroot.path / sysroot.deployments()[0].path / "usr/etc/resolv.conf").touch()
    status, found = fsck(sysroot, capsys)
    assert status == 1
    assert "zero-sized" in only(found, "etc-resolvconf")
