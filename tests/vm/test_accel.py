"""Which accelerator is used, and what is refused."""

import json
import stat
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import MissingProgramError
from bootc_build.vm import accel
from bootc_build.vm.accel import (
    Acceleration,
    Accelerator,
    check_qemu,
    find_acceleration,
    qemu_version,
    spin_seconds,
    spinning_boot_sector,
)


def _fake_qemu(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_probe_is_a_boot_sector() -> None:
    sector = spinning_boot_sector()
    assert len(sector) == 512
    assert sector.endswith(b"\x55\xaa")


def test_the_probe_runs_guest_code_under_tcg() -> None:
    took = spin_seconds(Accelerator.TCG, limit=60)
    assert took is not None
    assert 0.05 < took < 60


def test_a_probe_that_does_not_come_back_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_qemu(tmp_path, "exec sleep 60", monkeypatch)
    assert spin_seconds(Accelerator.TCG, limit=0.2) is None


def test_a_probe_that_ends_otherwise_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_qemu(tmp_path, "exit 0", monkeypatch)
    assert spin_seconds(Accelerator.TCG, limit=10) is None


def test_the_finding_is_kept_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTC_BUILD_ACCEL", "tcg")
    first = find_acceleration(cache=tmp_path)
    monkeypatch.setattr(accel, "spin_seconds", None)
    assert find_acceleration(cache=tmp_path) == first
    assert first.accelerator is Accelerator.TCG
    assert first.time_scale > 0


def test_a_broken_cache_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTC_BUILD_ACCEL", "tcg")
    monkeypatch.setattr(accel, "spin_seconds", lambda *_args, **_kwargs: 1.24)
    assert find_acceleration(cache=tmp_path) == Acceleration(Accelerator.TCG, 2.0)
    [file] = tmp_path.iterdir()
    file.write_text(json.dumps({"accelerator": "magic"}))
    assert find_acceleration(cache=tmp_path) == Acceleration(Accelerator.TCG, 2.0)


def test_kvm_that_does_not_run_code_is_refused_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "spin_seconds", lambda *_args, **_kwargs: None)
    with pytest.raises(UserError, match="KVM does not run guest code"):
        find_acceleration(Accelerator.KVM, cache=tmp_path)


def test_kvm_that_does_not_run_code_is_passed_over_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOOTC_BUILD_ACCEL", raising=False)
    monkeypatch.setattr(accel, "_kvm_is_promising", lambda: True)
    monkeypatch.setattr(
        accel,
        "spin_seconds",
        lambda accelerator, **_kwargs: None if accelerator is Accelerator.KVM else 0.62,
    )
    assert find_acceleration(cache=tmp_path) == Acceleration(Accelerator.TCG, 1.0)


def test_an_unknown_accelerator_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTC_BUILD_ACCEL", "turbo")
    with pytest.raises(UsageError, match="turbo"):
        find_acceleration(cache=tmp_path)


def test_a_qemu_that_miscomputes_is_refused_without_kvm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_qemu(tmp_path, "echo QEMU emulator version 7.2.19", monkeypatch)
    monkeypatch.setattr(accel, "spin_seconds", lambda *_args, **_kwargs: 0.62)
    with pytest.raises(UserError, match=r"QEMU 7\.2\.19 miscomputes") as caught:
        find_acceleration(Accelerator.TCG, cache=tmp_path / "cache")
    assert "backports" in caught.value.remedy
    check_qemu(qemu_version(), Accelerator.KVM)


def test_a_missing_qemu_is_named_with_its_package() -> None:
    with pytest.raises(MissingProgramError) as caught:
        qemu_version("qemu-system-none")
    assert "qemu-system-x86" in caught.value.remedy
