from pathlib import Path

import pytest

from bootc_build.inspection import programs
from bootc_build.inspection.render import _secure_boot
from bootc_build.inspection.secure_boot import examine
from bootc_build.onhost.process import run
from tests.inspection.small_disks import GRUB, SHIM


def test_a_changed_byte_is_found_out() -> None:
    changed = bytearray(GRUB.read_bytes())
    changed[100_000] ^= 1
    found = {
        each.path: each
        for each in examine([("shim", SHIM.read_bytes()), ("grub", bytes(changed))]).programs
    }
    assert found["shim"].intact is True
    assert found["grub"].intact is False
    assert found["grub"].vouched_by == ""


def test_a_damaged_signature_hides_no_other() -> None:
    damaged = bytearray(GRUB.read_bytes())
    pe = int.from_bytes(damaged[0x3C:0x40], "little")
    # The data directory's fifth entry: where the signatures lie.
    table = int.from_bytes(damaged[pe + 168 : pe + 172], "little")
    damaged[table + 8 : table + 60] = b"\xa5" * 52
    report = examine([("shim", SHIM.read_bytes()), ("cut", bytes(damaged))])
    assert report.unchecked == ""
    found = {each.path: each for each in report.programs}
    assert found["shim"].intact is True
    assert (found["cut"].intact, found["cut"].signatures) == (False, ())
    assert "  cut: ITS SIGNATURE IS DAMAGED" in list(_secure_boot(report))


def test_shim_vouches_only_for_what_its_certificate_issued(tmp_path: Path) -> None:
    """sbverify itself accepts any certificate for a signature that brings its issuer along."""
    key, certificate, signed = (tmp_path / name for name in ("key", "certificate", "signed.efi"))
    subject = ["-subj", "/CN=somebody else", "-keyout", str(key), "-out", str(certificate)]
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject])
    unsigned = tmp_path / "unsigned.efi"
    unsigned.write_bytes(GRUB.read_bytes())
    run(["sbattach", "--remove", str(unsigned)])
    pair = ["--key", str(key), "--cert", str(certificate)]
    run(["sbsign", *pair, "--output", str(signed), str(unsigned)])
    report = examine(
        [
            ("shim", SHIM.read_bytes()),
            ("signed", signed.read_bytes()),
            ("unsigned", unsigned.read_bytes()),
            ("text", b"MZ is not enough"),
        ]
    )
    found = {each.path: each for each in report.programs}
    assert sorted(found) == ["shim", "signed", "unsigned"]
    assert (found["signed"].intact, found["signed"].vouched_by) == (True, "firmware")
    assert [each.subject for each in found["signed"].signatures] == ["somebody else"]
    assert (found["unsigned"].signatures, found["unsigned"].intact) == ((), None)
    assert found["shim"].vouched_by == "firmware"


def test_missing_programs_are_said_and_hide_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bootc_build.onhost.process.shutil.which", lambda *_args, **_named: None)
    report = examine([("shim", SHIM.read_bytes())])
    assert report.programs == ()
    assert "apt-get install sbsigntool" in report.unchecked


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + b"\xff" * 200, SHIM.read_bytes()[:300]])
def test_broken_programs_have_no_sections(data: bytes) -> None:
    assert programs.sections(data) == {}
    assert programs.vendor_certificates({}) == ""
