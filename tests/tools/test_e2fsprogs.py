"""File systems in files."""

import sys
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.tools.e2fsprogs import (
    Ext4Slot,
    edit,
    index_directories,
    make_empty_ext4,
    superblock,
)


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ext4Slot:
    """A place for a file system, and programs that do nothing but sync a descriptor that is none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mke2fs", "e2fsck", "debugfs", "dumpe2fs"):
        program = programs / name
        program.write_text(f"#!{sys.executable}\nimport os\nos.fsync(9999)\nprint('Synced: no')\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return Ext4Slot(tmp_path / "disk", 0, 1 << 20)


def test_making_a_file_system_does_not_wait_for_the_disk(slot: Ext4Slot) -> None:
    make_empty_ext4(slot, uuid=UUID(int=1), hash_seed=UUID(int=2), label="x", timestamp=0)
    index_directories(slot, 0)


def test_changing_it_does_not_either(slot: Ext4Slot) -> None:
    edit(slot, ["stat /"], 0)


def test_nor_does_looking_at_it(slot: Ext4Slot) -> None:
    assert superblock(slot) == {"Synced": "no"}
