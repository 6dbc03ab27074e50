"""Whether a root can be encrypted is known before the disk is touched."""

from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import encryption
from bootc_build.onhost.install import initramfs as of_the_image
from bootc_build.onhost.process import MissingProgramError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a TPM and an image with an initramfs; the folder of its programs, all of which are there."""
    tpm = tmp_path / "tpmrm0"
    tpm.touch()
    initramfs = tmp_path / "modules/6.1/initramfs.img"
    initramfs.parent.mkdir(parents=True)
    initramfs.touch()
    monkeypatch.setattr(encryption, "TPM", tpm)
    monkeypatch.setattr(of_the_image, "FOLDERS", tmp_path / "modules")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cryptsetup", "systemd-cryptenroll"):
        _program(folder / name, "exit 0")
    _initramfs_with(folder, "bash systemd crypt systemd-cryptsetup dm tpm2-tss ostree")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _initramfs_with(folder: Path, modules: str) -> None:
    _program(folder / "lsinitrd", f"printf '%s\\n' {modules}")


def test_all_that_it_takes_is_enough(programs: Path) -> None:
    assert programs.is_dir()
    encryption.check()


def test_a_machine_without_a_tpm_is_told(programs: Path) -> None:
    programs.with_name("tpmrm0").unlink()
    with pytest.raises(UserError, match=r"needs a TPM 2\.0.*tpmrm0") as caught:
        encryption.check()
    assert "--block-setup direct" in caught.value.remedy


def test_an_image_without_the_programs_names_the_packages(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "cryptsetup").rename(programs / "another-name")
    monkeypatch.setattr(encryption, "_PROGRAMS", ("another-name", "no-such-program"))
    with pytest.raises(MissingProgramError) as caught:
        encryption.check()
    assert "systemd-cryptsetup tpm2-tools" in caught.value.remedy


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ("bash systemd ostree tpm2-tss", "dracut's crypt is not in it"),
        ("bash systemd ostree crypt", "dracut's tpm2-tss is not in it"),
        ("bash systemd ostree", "dracut's crypt and tpm2-tss are not in it"),
    ],
)
def test_an_initramfs_that_would_not_open_the_root_is_refused(
    modules: str, said: str, programs: Path
) -> None:
    _initramfs_with(programs, modules)
    with pytest.raises(UserError, match=said):
        encryption.check()
