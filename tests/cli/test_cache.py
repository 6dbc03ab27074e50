"""``bootc-build cache``, with a cache of its own."""

import json
import os
import time
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.disk.cached import disk_shelf
from bootc_build.tools.shelf import Shelf
from bootc_build.vm.snapshot import snapshot_shelf

_MIB = 1 << 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two snapshots, one of them not used for three days, and a disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _put(snapshot_shelf(), "old", days=3)
    _put(snapshot_shelf(), "new")
    _put(disk_shelf(), "disk")
    return tmp_path


def _put(shelf: Shelf, key: str, *, days: float = 0) -> None:
    def make(place: Path) -> None:
        (place / "content").write_bytes(b"x" * _MIB)

    shelf.obtain(key, make).close()
    used = time.time() - days * 86400
    os.utime(shelf.folder / f"{key}.lock", (used, used))


def _keys() -> set[str]:
    return {thing.key for shelf in (snapshot_shelf(), disk_shelf()) for thing in shelf.things()}


def test_what_is_kept_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    assert [word in lines[0] for word in ("snapshots", "old", "1 MiB", "used 3 days ago")] == (
        [True] * 4
    )
    assert "There are 3" in err


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--kind", "disks", "--format", "json"]) == 0
    [thing] = json.loads(capsys.readouterr().out)
    assert (thing["kind"], thing["key"], thing["inUse"]) == ("disks", "disk", False)
    assert thing["bytes"] >= _MIB
    assert Path(thing["path"], "content").exists()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], set()),
        (["--kind", "snapshots"], {"disk"}),
        (["--unused-for", "2"], {"new", "disk"}),
        (["--keep", "1.5M"], {"new", "disk"}),
        (["--keep", "1G"], {"old", "new", "disk"}),
    ],
)
def test_it_is_cleaned_as_far_as_is_asked(options: list[str], left: set[str]) -> None:
    assert main(["cache", "clean", *options]) == 0
    assert _keys() == left


def test_what_is_in_use_stays(capsys: pytest.CaptureFixture[str]) -> None:
    held = snapshot_shelf().find("old")
    assert held is not None
    with held:
        assert main(["cache", "clean"]) == 0
        assert _keys() == {"old"}
        capsys.readouterr()
        main(["cache"])
        assert "in use" in capsys.readouterr().out


def test_an_empty_cache_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    for action in ("show", "clean"):
        assert main(["cache", action]) == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["show", "--keep", "1G"],
        ["clean", "--keep", "1G", "--unused-for", "1"],
        ["clean", "--unused-for", "-1"],
        ["clean", "--unused-for", "nan"],
        ["clean", "--keep", "lots"],
    ],
)
def test_what_makes_no_sense_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *wrong]) == 2
    assert "error" in capsys.readouterr().err
    assert _keys() == {"old", "new", "disk"}
