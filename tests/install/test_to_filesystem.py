"""`bootc install to-filesystem` into a scratch directory, with a small invented image."""

import configparser
import json
import stat
import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost import pull, unsynced
from bootc_build.onhost.cli.main import main
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import bootloader, request
from bootc_build.onhost.oci.manifest import parse_config, parse_manifest
from bootc_build.onhost.oci.reference import CONTAINER_POLICY, INSECURE, ImageReference
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.sysroot import open_sysroot
from tests.host.invented_os import commit_image, image_documents

ROOT = "11111111-2222-3333-4444-555555555555"
BOOT = "66666666-7777-8888-9999-aaaaaaaaaaaa"
IMAGE_KARGS = 'kargs = ["quiet", "mitigations=off"]\n'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Install":
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "")
    monkeypatch.setenv("OSTREE_SYSROOT_OPTS", "")

    def pulled(repo: Repo, image: ImageReference, **_: object) -> pull.PulledImage:
        assert image.skopeo == "oci:/src:image"
        return commit_image(tmp_path, repo, kargs=IMAGE_KARGS)

    invented = f"sha256:{'1' * 64}"
    manifest, config = image_documents("1", invented, invented, 3)
    described = pull.RemoteImage(invented, parse_manifest(manifest), parse_config(config))
    monkeypatch.setattr(pull, "pull", pulled)
    monkeypatch.setattr(pull, "probe", lambda _image: described)
    target = tmp_path / "target"
    target.mkdir()
    return Install(target)


class Install:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __call__(self, *extra: str) -> int:
        return main(
            [
                "install",
                "to-filesystem",
                "--source-imgref=oci:/src:image",
                "--target-imgref=docker://registry.example/os:1",
                f"--root-mount-spec=UUID={ROOT}",
                f"--boot-mount-spec=UUID={BOOT}",
                "--generic-image",
                "--skip-finalize",
                *extra,
                str(self.target),
            ]
        )


@pytest.mark.parametrize("wanted", [True, False])
def test_who_makes_a_disk_of_the_tree_need_not_wait_for_it_to_be_synced(
    install: Install, monkeypatch: pytest.MonkeyPatch, *, wanted: bool
) -> None:
    asked: list[list[Path]] = []
    monkeypatch.setattr(
        unsynced, "write_unsynced", lambda: asked.append(list(install.target.iterdir()))
    )
    if wanted:
        monkeypatch.setenv(unsynced.VARIABLE, "1")
    assert install() == 0
    # Before there is anything in the target.
    assert asked == [[]] * wanted


def test_installed_tree_has_one_deployment_that_tracks_the_target(install: Install) -> None:
    assert install("--karg=console=ttyS0,115200n8", "--karg-delete=mitigations") == 0
    (deployment,) = open_sysroot(install.target).deployments()
    assert deployment.stateroot == "default"
    assert "container-image-reference=ostree-unverified-registry:registry.example/os:1" in (
        deployment.origin
    )
    words = deployment.options.split()
    assert words[:3] == [f"root=UUID={ROOT}", "rw", "quiet"]
    assert "console=ttyS0,115200n8" in words
    assert not any(word.startswith("mitigations") for word in words)
    assert any(word.startswith("ostree=/ostree/boot.") for word in words)
    deployed = install.target / deployment.path
    assert (deployed / "usr/lib/version").read_text() == "1"
    assert (deployed / "etc/fstab").read_text() == (
        f"# nothing here\nUUID={BOOT} /boot ext4 defaults,x-systemd.device-timeout=10min 0 2\n"
    )
    fsck = ["ostree", "fsck", "-q", f"--repo={install.target}/ostree/repo"]
    subprocess.run(fsck, check=True, capture_output=True)


def test_repository_is_set_up_for_our_boot_menu(install: Install) -> None:
    assert install() == 0
    config = configparser.ConfigParser()
    config.read(install.target / "ostree/repo/config")
    assert config["core"]["mode"] == "bare"
    assert config["sysroot"]["bootloader"] == "grub2"
    assert config["sysroot"]["bootprefix"] == "true"
    assert config["sysroot"]["readonly"] == "true"


def test_menu_boots_the_deployment_and_moves_with_the_loader_link(install: Install) -> None:
    assert install() == 0
    boot = install.target / "boot"
    assert (boot / "grub/grub.cfg").readlink() == Path("../loader/grub.cfg")
    assert (boot / "boot").readlink() == Path()
    menu = (boot / "grub/grub.cfg").read_text()
    assert menu.count("menuentry ") == 1
    assert f"root=UUID={ROOT}" in menu
    kernel = next(line.split()[1] for line in menu.splitlines() if line.startswith("\tlinux "))
    # GRUB looks from the root of the /boot file system.
    assert Path(f"{boot}/{kernel}").read_text() == "kernel 1"
    subprocess.run(["grub-script-check", boot / "grub/grub.cfg"], check=True)


def test_both_firmwares_find_boot_by_its_uuid(install: Install) -> None:
    assert install() == 0
    boot = install.target / "boot"
    assert (boot / "grub/i386-pc/boot.img").stat().st_size == 512
    core = (boot / "grub/i386-pc/core.img").read_bytes()
    assert 20_000 < len(core) < 1024 * 1024 - 512, "has to fit into a BIOS boot partition of 1 MiB"
    esp = boot / "efi/EFI"
    names = sorted(str(path.relative_to(esp)) for path in esp.rglob("*") if path.is_file())
    assert names == [
        "BOOT/BOOTX64.EFI", "BOOT/grubx64.efi", "BOOT/mmx64.efi",
        "debian/grub.cfg", "debian/grubx64.efi", "debian/mmx64.efi", "debian/shimx64.efi",
    ]  # fmt: skip
    assert (esp / "debian/grub.cfg").read_text() == (
        f"search --no-floppy --fs-uuid --set=root {BOOT}\n"
        "set prefix=($root)/grub\n"
        "configfile ($root)/grub/grub.cfg\n"
    )


def test_deployment_stays_mutable_for_a_caller_that_finalizes(install: Install) -> None:
    assert install() == 0
    (deployment,) = open_sysroot(install.target).deployments()
    marker = install.target / deployment.path / "marker"
    marker.touch()  # an immutable root would refuse


def test_record_of_the_installation_names_image_and_target(install: Install) -> None:
    assert install() == 0
    aleph = install.target / ".bootc-aleph.json"
    record = json.loads(aleph.read_text())
    assert record["target-image"] == "ostree-unverified-registry:registry.example/os:1"
    assert record["version"] == "1"
    assert record["digest"].startswith("sha256:")
    assert record["labels"]["containers.bootc"] == "1"
    assert stat.S_IMODE(aleph.stat().st_mode) == 0o644


def test_root_gets_ssh_keys_at_boot(install: Install, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ssh-ed25519 AAAA me\n")
    assert install(f"--root-ssh-authorized-keys={keys}") == 0
    (deployment,) = open_sysroot(install.target).deployments()
    rules = (install.target / deployment.path / "etc/tmpfiles.d/bootc-root-ssh.conf").read_text()
    assert "c3NoLWVkMjU1MTkgQUFBQSBtZQo=" in rules


def test_target_that_is_not_empty_is_refused(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    (install.target / "precious").touch()
    assert install() == 1
    assert "precious" in capsys.readouterr().err
    assert [path.name for path in install.target.iterdir()] == ["precious"]


def test_image_without_boot_loader_packages_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        bootloader.install(("bios",), boot=tmp_path, boot_uuid=BOOT, image_root=tmp_path)
    assert "grub-pc-bin grub-common" in caught.value.remedy
    with pytest.raises(UserError) as caught:
        bootloader.install(("uefi",), boot=tmp_path, boot_uuid=BOOT, image_root=tmp_path)
    assert "shim-signed grub-efi-amd64-signed" in caught.value.remedy


def test_unknown_firmware_is_wrong_usage(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install("--bootloader-target=bios,openfirmware") == 2
    assert "openfirmware" in capsys.readouterr().err


def test_target_reference_takes_either_spelling() -> None:
    bare = request.target_reference("quay.io/a/b:1", "registry", INSECURE)
    assert bare.to_origin() == "ostree-unverified-registry:quay.io/a/b:1"
    qualified = request.target_reference("docker://quay.io/a/b:1", "registry", CONTAINER_POLICY)
    assert qualified.to_origin() == "ostree-image-signed:docker://quay.io/a/b:1"
    local = request.target_reference("containers-storage:localhost/os:1", "registry", INSECURE)
    assert (local.transport, local.name) == ("containers-storage", "localhost/os:1")
    host = request.target_reference("localhost:5000/os:1", "registry", INSECURE)
    assert (host.transport, host.name) == ("registry", "localhost:5000/os:1")
