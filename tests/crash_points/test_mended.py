from pathlib import Path
from uuid import UUID

from bootc_build.disk.ext4.fill import Identity, make_ext4
from bootc_build.disk.ext4.scan import scan
from bootc_build.onhost.process import run
from bootc_build.tools.e2fsprogs import BLOCK, Ext4Slot, edit, read_file
from bootc_build.tools.ext4_inspection import mended

_NOW = 1_700_000_000


def _file_system(folder: Path) -> Ext4Slot:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "file").write_text("old\n")
    slot = Ext4Slot(folder / "disk", 0, 16 << 20)
    with slot.disk.open("xb") as file:
        file.truncate(slot.size)
    identity = Identity(UUID(int=1), UUID(int=2), "x", _NOW)
    make_ext4(slot, scan(tree, _NOW), identity).write_contents()
    return slot


def test_a_journal_is_replayed_for_a_while(tmp_path: Path) -> None:
    slot = _file_system(tmp_path)
    block = run(["debugfs", "-R", "blocks /file", slot.device]).stdout.split()[0]
    (tmp_path / "content").write_bytes(b"new\n".ljust(BLOCK, b"\0"))
    edit(slot, ["jo -c", f"jw -b {block} {tmp_path / 'content'}", "jc"], _NOW)
    before = slot.disk.read_bytes()
    assert read_file(slot, "/file") == "old\n"
    with mended(slot, tmp_path) as done:
        assert done.complaints == ()
        assert read_file(slot, "/file") == "new\n"
    assert slot.disk.read_bytes() == before


def test_what_is_safe_to_mend_is_mended_for_a_while(tmp_path: Path) -> None:
    slot = _file_system(tmp_path)
    edit(slot, ["ssv free_blocks_count 7"], _NOW)
    before = slot.disk.read_bytes()
    with mended(slot, tmp_path) as done:
        assert done.complaints == ()
        assert slot.disk.read_bytes() != before
    assert slot.disk.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "tree"]


def test_what_a_person_has_to_mend_is_told(tmp_path: Path) -> None:
    slot = _file_system(tmp_path)
    edit(slot, ["clri <2>"], _NOW)
    before = slot.disk.read_bytes()
    with mended(slot, tmp_path) as done:
        assert done.complaints
        assert not [line for line in done.complaints if "undone" in line]
    assert slot.disk.read_bytes() == before
