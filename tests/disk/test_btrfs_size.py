"""The default size of a btrfs is one that mkfs.btrfs leaves as it is."""

import os
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from bootc_build.disk.btrfs_size import estimate, wanted_by_mkfs, with_least
from bootc_build.disk.ext4.scan import scan
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.plan import Contents, plan_disk
from bootc_build.disk.trees import Trees, settle
from bootc_build.disk.wanted import Extra, Layout, Subvolume
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.process import run
from bootc_build.tools.mkfs import btrfs_command
from bootc_build.tools.sizes import GIB, MIB

IDENTITY = Identity.derive("sha256:" + "a" * 64, {})
BTRFS = Layout(filesystem="btrfs")

needs_btrfs = pytest.mark.skipif(
    shutil.which("mkfs.btrfs", path="/usr/sbin:/sbin:/usr/bin") is None, reason="needs mkfs.btrfs"
)


def made_of(tree: Path, size: int) -> int:
    """Bytes of what mkfs.btrfs makes of a tree in a file of a size."""
    file = tree.with_name("file-system")
    with file.open("xb") as made:
        made.truncate(size)
    run(btrfs_command(str(file), str(tree), uuid=UUID(int=1), label="root"))
    return file.stat().st_size


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Small files and a large one, all with further names, links and folders."""
    tree = tmp_path / "tree"
    for number in range(40):
        folder = tree / f"folder{number}"
        folder.mkdir(parents=True)
        for name in range(60):
            (folder / f"{name}").write_bytes(b"x" * (name * 97))
            os.link(folder / f"{name}", folder / f"{name}.again")
        (folder / "link").symlink_to("0")
    with (tree / "large").open("xb") as large:
        large.truncate(40 * MIB + 1)
    for number in range(20):
        os.link(tree / "large", tree / f"large{number}")
    return tree


@needs_btrfs
def test_estimate_is_that_of_mkfs_btrfs(tree: Path) -> None:
    assert made_of(tree, 110 * MIB) == wanted_by_mkfs([scan(tree, 0)])


@needs_btrfs
def test_estimate_of_an_empty_folder_is_that_of_mkfs_btrfs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert made_of(tmp_path / "tree", MIB) == wanted_by_mkfs([scan(tmp_path / "tree", 0)])


@needs_btrfs
def test_root_of_a_disk_without_a_size_has_the_size_that_mkfs_btrfs_makes_it(tree: Path) -> None:
    trees = Trees(tree, tree.with_name("boot"), tree.with_name("esp"))
    trees.boot.mkdir()
    trees.esp.mkdir()
    settled = settle(trees, 0)
    without = (
        plan_disk(IDENTITY, settled.contents, timestamp=0, layout=BTRFS).partition(Role.ROOT).size
    )
    plan = plan_disk(IDENTITY, with_least(settled, BTRFS), timestamp=0, layout=BTRFS)
    root = plan.partition(Role.ROOT).size
    assert without < root, "there is nothing to be shown here"
    assert made_of(tree, root) == root


def test_subvolumes_and_further_file_systems_are_reckoned_with(tmp_path: Path) -> None:
    root, home, data = (tmp_path / name for name in ("root", "home", "data"))
    for folder, size in ((root, 64), (home, 32), (data, 16)):
        folder.mkdir()
        (folder / "file").write_bytes(bytes(size * MIB))
    trees = Trees(root, root, root, {"/var/home": home, "/var/data": data, "/var/other": data})
    layout = Layout(
        filesystem="btrfs",
        subvolumes=(Subvolume("root", "/"), Subvolume("home", "/var/home")),
        extras=(Extra("/var/data", GIB, "btrfs"), Extra("/var/other", GIB)),
    )
    settled = settle(trees, 0)
    # The folder that subvolumes are gathered in has a name, too.
    assert with_least(settled, layout).least == {
        "/": estimate(5, 96 * MIB),
        "/var/data": estimate(2, 16 * MIB),
    }
    assert with_least(settled, Layout()).least == {}


def test_disk_is_refused_that_would_be_many_times_what_is_usual() -> None:
    contents = Contents(100 * MIB, least={"/": 4 * GIB})
    with pytest.raises(UsageError, match=r"mkfs.btrfs wants 4 GiB for the root") as refused:
        plan_disk(IDENTITY, contents, timestamp=0, layout=BTRFS)
    assert "--size 6G" in refused.value.remedy
    plan = plan_disk(IDENTITY, contents, timestamp=0, layout=BTRFS, size=6 * GIB)
    assert plan.partition(Role.ROOT).size >= 4 * GIB


def test_size_that_mkfs_btrfs_would_exceed_is_refused_before_the_work() -> None:
    contents = Contents(100 * MIB, least={"/": 2 * GIB})
    with pytest.raises(UsageError, match="too small for this image"):
        plan_disk(IDENTITY, contents, timestamp=0, layout=BTRFS, size=2 * GIB)
    with pytest.raises(UsageError, match=r"the root need 2 GiB of btrfs"):
        plan_disk(IDENTITY, contents, timestamp=0, layout=Layout("btrfs", root_size=GIB))
    contents = Contents(100 * MIB, least={"/var/data": GIB})
    small = Layout(extras=(Extra("/var/data", 900 * MIB, "btrfs"),))
    with pytest.raises(UsageError, match=r"/var/data need 1 GiB of btrfs"):
        plan_disk(IDENTITY, contents, timestamp=0, layout=small)
