"""Drop-in directories of an image, read in a root directory and in the commit that it becomes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.bound.spec import bound_images
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import kargs_of
from bootc_build.onhost.image_tree import RootTree, Tree
from bootc_build.onhost.ostree.files import CommitTree
from bootc_build.onhost.ostree.repo import create_repo
from tests.host.invented_os import make_tree

KARGS = 'kargs = ["a=1"]\n'


@pytest.fixture(params=["root", "commit"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Tree]:
    """A tree as it lies there, or committed."""

    def committed(tree: Path) -> Tree:
        repo = create_repo(tmp_path / "repo")
        command = ["ostree", "commit", f"--repo={tmp_path / 'repo'}", "--orphan"]
        commit = subprocess.run(
            [*command, f"--tree=dir={tree}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        return CommitTree(repo, commit)

    return RootTree if request.param == "root" else committed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_tree(tmp_path / "tree", version="1", kargs=KARGS)
    return tmp_path / "tree"


def test_links_inside_the_image_are_followed(read: Callable[[Path], Tree], tree: Path) -> None:
    (tree / "usr/lib/more.toml").write_text('kargs = ["b=2"]\n')
    (tree / "usr/lib/bootc/kargs.d/20-b.toml").symlink_to("/usr/lib/more.toml")
    (tree / "usr/lib/bootc/kargs.d/notes").mkdir()
    assert kargs_of(read(tree)) == ("a=1", "b=2")
    assert bound_images(read(tree)) == ()


def test_directory_may_be_a_link(read: Callable[[Path], Tree], tree: Path) -> None:
    (tree / "usr/lib/bootc/kargs.d").rename(tree / "usr/lib/kargs")
    (tree / "usr/lib/bootc/kargs.d").symlink_to("../kargs")
    assert kargs_of(read(tree)) == ("a=1",)


def to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("path", "make", "fact"),
    [
        ("kargs.d/20-b.toml", to_nowhere, "/usr/lib/bootc/kargs.d/20-b.toml leads to no file"),
        ("kargs.d/20-b.toml", Path.mkdir, "/usr/lib/bootc/kargs.d/20-b.toml is not a file"),
        ("kargs.d/20-b.toml", lambda path: path.write_bytes(b"\xff"), "cannot be read as text"),
        ("kargs.d", Path.touch, "/usr/lib/bootc/kargs.d is not a directory"),
        ("kargs.d", to_nowhere, "/usr/lib/bootc/kargs.d is not a directory"),
        ("bound-images.d", Path.touch, "/usr/lib/bootc/bound-images.d is not a directory"),
        ("bound-images.d", to_nowhere, "/usr/lib/bootc/bound-images.d is not a directory"),
    ],
)
def test_what_is_no_drop_in_is_refused(
    path: str,
    make: Callable[[Path], object],
    fact: str,
    read: Callable[[Path], Tree],
    tree: Path,
) -> None:
    place = tree / "usr/lib/bootc" / path
    if place.is_dir():
        place.rename(tree / "usr/lib/old")
    make(place)
    found = read(tree)
    with pytest.raises(UserError) as caught:
        bound_images(found) if "bound" in path else kargs_of(found)
    assert fact in caught.value.fact
    assert caught.value.remedy


def test_quadlet_file_that_is_no_text_is_named(read: Callable[[Path], Tree], tree: Path) -> None:
    (tree / "usr/lib/a.image").write_bytes(b"[Image]\nImage=\xff\n")
    (tree / "usr/lib/bootc/bound-images.d").mkdir()
    (tree / "usr/lib/bootc/bound-images.d/a.image").symlink_to("../../a.image")
    with pytest.raises(UserError, match=r"usr/lib/a.image.* cannot be read as text"):
        bound_images(read(tree))
