"""Layers that somebody else imported, in the target of an installation."""

import json
import stat
from pathlib import Path

import pytest

from bootc_build.onhost.install.layers import FOLDER, INDEX, OBJECTS, take_over
from bootc_build.onhost.ostree.repo import Repo, create_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A new repository, and beside it layers that are handed over: two objects, in folders of one name each."""
    repo = create_repo(tmp_path / "repo")
    for name in ("ab/1.file", "cd/2.file"):
        given = tmp_path / FOLDER / OBJECTS / name
        given.parent.mkdir(parents=True, mode=0o700)
        given.write_text(name)
    (tmp_path / FOLDER / INDEX).write_text(json.dumps({}))
    return repo


def objects(repo: Repo) -> dict[str, str]:
    found = (repo.path / "objects").glob("??/*")
    return {str(path.relative_to(repo.path / "objects")): path.read_text() for path in found}


def test_objects_become_the_repositorys(repo: Repo, tmp_path: Path) -> None:
    take_over(tmp_path, repo)
    assert objects(repo) == {"ab/1.file": "ab/1.file", "cd/2.file": "cd/2.file"}
    assert not (tmp_path / FOLDER).exists()


def test_folders_are_as_libostree_makes_them(repo: Repo, tmp_path: Path) -> None:
    take_over(tmp_path, repo)
    folders = [path for path in (repo.path / "objects").iterdir() if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o755}


def test_objects_that_the_repository_has_stay(repo: Repo, tmp_path: Path) -> None:
    (repo.path / "objects/ab").mkdir()
    (repo.path / "objects/ab/0.file").write_text("old")
    take_over(tmp_path, repo)
    assert objects(repo) == {"ab/0.file": "old", "ab/1.file": "ab/1.file", "cd/2.file": "cd/2.file"}
