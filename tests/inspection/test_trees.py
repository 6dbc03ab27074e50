import os
from pathlib import Path

import pytest

from bootc_build.inspection.trees import LayeredTree, read_text


def plant(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder.mkdir(exist_ok=True)
    return folder


def test_the_highest_layer_wins_and_folders_are_united(tmp_path: Path) -> None:
    low = plant(tmp_path / "low", {"etc/a": "old", "etc/b": "kept"})
    high = plant(tmp_path / "high", {"etc/a": "new", "etc/c": "more"})
    tree = LayeredTree([low, high])
    assert tree.names("/etc") == ("a", "b", "c")
    assert tree.read("/etc/a") == b"new"
    assert tree.read("/etc/b") == b"kept"
    assert tree.read("/etc/absent") is None
    assert tree.read("/etc") is None


@pytest.mark.parametrize("how", ["device", "file"])
def test_what_a_layer_took_away_is_gone(tmp_path: Path, how: str) -> None:
    low = plant(tmp_path / "low", {"etc/a": "old", "etc/b": "kept", "opt/x/y": "deep"})
    high = plant(tmp_path / "high", {"etc/c": "more"})
    if how == "device":
        os.mknod(high / "etc/a", 0o020000, os.makedev(0, 0))
        os.mknod(high / "opt", 0o020000, os.makedev(0, 0))
    else:
        (high / "etc/.wh.a").touch()
        (high / ".wh.opt").touch()
    tree = LayeredTree([low, high])
    assert tree.names("/etc") == ("b", "c")
    assert tree.names("/") == ("etc",)
    assert tree.read("/etc/a") is None
    assert tree.read("/opt/x/y") is None


@pytest.mark.parametrize("how", ["attribute", "file"])
def test_an_opaque_folder_hides_what_is_below(tmp_path: Path, how: str) -> None:
    low = plant(tmp_path / "low", {"etc/deep/a": "old", "etc/b": "old"})
    high = plant(tmp_path / "high", {"etc/c": "new"})
    if how == "attribute":
        os.setxattr(high / "etc", "trusted.overlay.opaque", b"y")
    else:
        (high / "etc/.wh..wh..opq").touch()
    tree = LayeredTree([low, high])
    assert tree.read("/etc/b") is None
    assert tree.read("/etc/deep/a") is None
    assert tree.names("/etc") == ("c",)


def test_a_file_in_place_of_a_folder_hides_it(tmp_path: Path) -> None:
    low = plant(tmp_path / "low", {"srv/a": "old"})
    high = plant(tmp_path / "high", {"srv": "file"})
    tree = LayeredTree([low, high])
    assert tree.read("/srv/a") is None
    assert tree.names("/srv") == ()
    assert tree.read("/srv") == b"file"


def test_links_lead_nowhere_outside_and_across_layers(tmp_path: Path) -> None:
    low = plant(tmp_path / "low", {"usr/lib/db/status": "there"})
    high = plant(tmp_path / "high", {})
    (high / "var/lib").mkdir(parents=True)
    (high / "var/lib/db").symlink_to("../../../../usr/lib/db")
    (high / "absolute").symlink_to("/usr/lib/db/status")
    (high / "round").symlink_to("round")
    tree = LayeredTree([low, high])
    assert tree.read("/var/lib/db/status") == b"there"
    assert tree.readlink("/var/lib/db") == "../../../../usr/lib/db"
    assert read_text(tree, "/absolute") == "there"
    assert read_text(tree, "/round") is None
    assert tree.names("/round/x") == ()
    assert tree.readlink("/round/x") is None
    assert tree.names("/var/lib/db") == ("status",)
