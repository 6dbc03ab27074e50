"""Finding UEFI firmware by descriptors."""

import json
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.vm.firmware import find_uefi_firmware
from bootc_build.vm.spec import Firmware


def _describe(
    folder: Path, name: str, *features: str, machine: str = "pc-q35-*", code: str = "code.fd"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in (code, "vars.fd"):
        (folder / file).touch()
    flash = {"executable": code, "nvram-template": "vars.fd"}
    descriptor = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            **{
                key: {"filename": str(folder / file), "format": "raw"}
                for key, file in flash.items()
            },
        },
        "targets": [{"architecture": "x86_64", "machines": [machine]}],
        "features": list(features),
    }
    (folder / name).write_text(json.dumps(descriptor))


def test_secure_boot_takes_enrolled_keys_and_plain_takes_none(tmp_path: Path) -> None:
    _describe(tmp_path, "10.json", "secure-boot", code="empty.fd")
    _describe(tmp_path, "20.json", "secure-boot", "enrolled-keys", code="keys.fd")
    _describe(tmp_path, "30.json", code="plain.fd")
    secure = find_uefi_firmware(Firmware.UEFI_SECURE, folders=[tmp_path])
    plain = find_uefi_firmware(Firmware.UEFI, folders=[tmp_path])
    assert (secure.code.name, plain.code.name) == ("keys.fd", "plain.fd")


def test_the_administrators_descriptor_hides_the_distributions(tmp_path: Path) -> None:
    _describe(tmp_path / "usr", "10.json", code="usr.fd")
    _describe(tmp_path / "etc", "10.json", code="etc.fd")
    found = find_uefi_firmware(Firmware.UEFI, folders=[tmp_path / "etc", tmp_path / "usr"])
    assert found.code.name == "etc.fd"


def test_an_empty_descriptor_hides_one_of_its_name(tmp_path: Path) -> None:
    _describe(tmp_path / "usr", "10.json")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/10.json").touch()
    with pytest.raises(UserError):
        find_uefi_firmware(Firmware.UEFI, folders=[tmp_path / "etc", tmp_path / "usr"])


def test_firmware_for_other_machines_is_passed_over(tmp_path: Path) -> None:
    _describe(tmp_path, "10.json", machine="microvm")
    with pytest.raises(UserError, match="No uefi firmware") as caught:
        find_uefi_firmware(Firmware.UEFI, folders=[tmp_path])
    assert "apt-get install ovmf" in caught.value.remedy


@pytest.mark.parametrize("firmware", [Firmware.UEFI, Firmware.UEFI_SECURE])
def test_the_installed_firmware_is_found(firmware: Firmware) -> None:
    found = find_uefi_firmware(firmware)
    assert found.code.stat().st_size > 0
    assert found.variables.stat().st_size > 0


def test_firmware_for_arm_is_found_by_the_name_of_its_machine(tmp_path: Path) -> None:
    code, variables = tmp_path / "code", tmp_path / "variables"
    for file in (code, variables):
        file.touch()
    (tmp_path / "60-arm.json").write_text(
        json.dumps(
            {
                "interface-types": ["uefi"],
                "mapping": {
                    "device": "flash",
                    "executable": {"filename": str(code), "format": "raw"},
                    "nvram-template": {"filename": str(variables), "format": "raw"},
                },
                "targets": [{"architecture": "aarch64", "machines": ["virt-*"]}],
                "features": [],
            }
        )
    )
    wanted = {"architecture": "aarch64", "machine_type": "virt"}
    found = find_uefi_firmware(Firmware.UEFI, folders=[tmp_path], **wanted)
    assert (found.code, found.variables) == (code, variables)
    with pytest.raises(UserError, match="apt-get install qemu-efi-aarch64"):
        find_uefi_firmware(Firmware.UEFI_SECURE, folders=[tmp_path], **wanted)
