import threading
from pathlib import Path

import pytest

from bootc_build.disk.worktree import beside, remove_tree, work_tree
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run


def test_work_tree_is_gone_after_success_and_after_failure(tmp_path: Path) -> None:
    with work_tree(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path / "out"
    with pytest.raises(ZeroDivisionError), work_tree(tmp_path / "out"):
        raise ZeroDivisionError
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["os:v1", "a?b", "a@@b"])
def test_a_folder_that_a_program_would_not_find_is_refused_at_once(
    tmp_path: Path, name: str
) -> None:
    with (
        pytest.raises(UserError, match="No disk can be made in") as error,
        work_tree(tmp_path / name),
    ):
        pass
    assert "--output" in error.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_immutable_files_and_folders_are_removed_too(tmp_path: Path) -> None:
    inner = tmp_path / "tree/inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (tmp_path / "tree/other").write_text("x")
    run(["chattr", "+i", str(inner / "file"), str(inner), str(tmp_path / "tree/other")])
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".bootc-build-killed"
    left.mkdir()
    (left / "file").write_text("x")
    with work_tree(tmp_path) as mine, work_tree(tmp_path) as other:
        assert not left.exists()
        assert mine.is_dir()
        assert other.is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="Nothing can be written in"), work_tree(tmp_path / "file"):
        pass


def test_work_beside_a_block_is_done_when_the_block_ends(tmp_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        (tmp_path / "done").touch()

    with beside(work):
        begun.wait()  # in another thread, or this would wait for ever
        may_end.set()
    assert (tmp_path / "done").exists()


def test_work_beside_a_block_is_done_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), beside((tmp_path / "done").touch):
        raise KeyError
    assert (tmp_path / "done").exists()


def test_work_that_fails_beside_a_block_fails_it() -> None:
    def work() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), beside(work):
        pass
