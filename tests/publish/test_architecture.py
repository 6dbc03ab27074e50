"""Which architecture a disk is for, by its own tables and files."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bootc_build.disk.lvm import PARTITION_TYPE
from bootc_build.onhost.errors import UserError
from bootc_build.publish.architecture import disk_architecture
from bootc_build.tools.mtools import FatVolume
from bootc_build.tools.sfdisk import GptEntry, write_gpt
from bootc_build.tools.sizes import MIB

ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT = UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
X64, AA64 = "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTAA64.EFI"


@pytest.fixture
def make(tmp_path: Path) -> Callable[[tuple[UUID, ...], tuple[str, ...]], Path]:
    """Makes a disk with partitions of these types; an EFI system partition with these files is the first."""

    def make(kinds: tuple[UUID, ...], files: tuple[str, ...]) -> Path:
        disk, size = tmp_path / "disk.raw", 70 * MIB
        with disk.open("xb") as file:
            file.truncate((len(kinds) * 70 + 2) * MIB)
        entries = [
            GptEntry(n + 1, (1 + 70 * n) * 2048, size // 512, kind, uuid4(), "x", ())
            for n, kind in enumerate(kinds)
        ]
        write_gpt(disk, uuid4(), entries)
        if kinds[0] == ESP:
            volume = FatVolume(disk, MIB, size, 0)
            volume.format(1, "ESP")
            for name in files:
                (tmp_path / "esp" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "esp" / name).write_text("MZ")
            volume.copy_tree(tmp_path / "esp")
        return disk

    return make


@pytest.mark.parametrize(
    ("kinds", "files", "found"),
    [
        ((ESP, ROOT), (X64,), "arm64"),
        ((ESP, PARTITION_TYPE), (X64, "EFI/debian/shimx64.efi"), "x86_64"),
        ((ESP, PARTITION_TYPE), (AA64,), "arm64"),
    ],
    ids=["root partition", "volumes, x86-64", "volumes, arm64"],
)
def test_root_partition_or_what_uefi_starts_says_it(
    make: Callable[[tuple[UUID, ...], tuple[str, ...]], Path],
    kinds: tuple[UUID, ...],
    files: tuple[str, ...],
    found: str,
) -> None:
    assert disk_architecture(make(kinds, files)) == found


@pytest.mark.parametrize(
    ("kinds", "files", "said"),
    [
        ((PARTITION_TYPE,), (), "no EFI system partition that would say which it is"),
        ((ESP, PARTITION_TYPE), ("EFI/x",), f"has neither {X64} nor {AA64}"),
        ((ESP, PARTITION_TYPE), (X64, AA64), f"has both {X64} and {AA64}"),
    ],
    ids=["no EFI system partition", "no program", "two programs"],
)
def test_what_is_missing_is_said(
    make: Callable[[tuple[UUID, ...], tuple[str, ...]], Path],
    kinds: tuple[UUID, ...],
    files: tuple[str, ...],
    said: str,
) -> None:
    with pytest.raises(UserError) as refused:
        disk_architecture(make(kinds, files))
    assert "no root partition of x86-64 or arm64" in refused.value.fact
    assert said in refused.value.fact
    assert "bootc-build disk IMAGE --type ami" in refused.value.remedy
