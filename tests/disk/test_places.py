"""Where files of a configuration come to lie, and the homes that they lie in."""

import os
from pathlib import Path

import pytest

from bootc_build.config.disk import Directory, DiskConfiguration, File
from bootc_build.disk.settings.accounts import Home
from bootc_build.disk.settings.deployment import Deployment, MachineFile
from bootc_build.disk.settings.homes import make_way
from bootc_build.disk.settings.places import place_problems

ALICE = Home("/var/home/alice", 1000, 1001, is_new=True)
ROOT = Home("/var/roothome", 0, 0, is_new=False)
INNER = Home("/var/home/alice/bot", 1002, 1002, is_new=True)
HOMES = (ALICE, ROOT, INNER)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    root, var = tmp_path / "root", tmp_path / "var"
    for folder in ("etc/skel/.config", "etc/default", "usr/lib/opt", "data"):
        (root / folder).mkdir(parents=True)
    (var / "home").mkdir(parents=True)
    (root / "etc/skel/.profile").write_text("umask 022\n")
    (root / "etc/skel/link").symlink_to("nowhere")
    (root / "etc/hosts").touch()
    for name, aim in {"home": "var/home", "root": "/var/roothome", "opt": "usr/lib/opt"}.items():
        (root / name).symlink_to(aim)
    return Deployment(root, var)


# Directories and files, and the key paths and beginnings of what is said of them.
PLACES = {
    "fine": (["/etc/a", "/etc/a/b", "/home/x"], ["/etc/a/b/c", "/srv/../etc/x"], []),
    "folder above": (["/etc/a/b"], [], ["directories[0].path: is /etc/a/b, and the folder above"]),
    "home above": (["/home/alice/x"], [], []),
    "below a home": (["/home/alice/x/y"], [], ["directories[0].path: is /home/alice/x/y, and the"]),
    "another home": (["/home/bob/x"], [], ["directories[0].path: is /home/bob/x, and the folder"]),
    "of our own files": (["/etc/ours/x"], [], []),
    "the image's": (
        ["/opt/x"],
        ["/data/x"],
        [
            "directories[0].path: is /opt/x, and /usr/lib/opt/x belongs to the image",
            "files[0].path: is /data/x, and /data/x belongs to the image",
        ],
    ),
    "file in the way": (
        ["/etc/hosts"],
        ["/etc/hosts/x"],
        ["directories[0].path: is /etc/hosts, which is no folder"],
    ),
    "below a file": ([], ["/etc/hosts/x"], ["files[0].path: is /etc/hosts/x, and /etc/hosts is no"]),
    "below a file of its own": (
        [],
        ["/etc/a", "/etc/a/b"],
        ["files[1].path: is /etc/a/b, and /etc/a is no folder"],
    ),
    "folder in the way": ([], ["/etc/default"], ["files[0].path: is /etc/default, which is a"]),
    "folder of its own": (["/etc/a"], ["/etc/a"], ["files[0].path: is /etc/a, which is a folder"]),
    "one place": (
        [],
        ["/home/x", "/var/home/x"],
        ["files[1].path: is /var/home/x, which leads to the place of 'files[0].path'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("folders", "files", "said"), PLACES.values(), ids=PLACES)
def test_places_that_cannot_be_are_told_before_anything_is_made(
    deployment: Deployment, folders: list[str], files: list[str], said: list[str]
) -> None:
    wanted = DiskConfiguration.model_construct(
        directories=tuple(Directory.model_construct(path=path) for path in folders),
        files=tuple(File.model_construct(path=path) for path in files),
    )
    found = list(place_problems(deployment, wanted, [ALICE.path], ["/etc/ours/file"]))
    texts = [f"{problem.path}: {problem.fact}" for problem in found]
    assert [text[: len(one)] for text, one in zip(texts, said, strict=True)] == said
    assert all(problem.remedy for problem in found)


def owners(top: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(top)): (path.lstat().st_uid, path.lstat().st_gid)
        for path in (top, *top.rglob("*"))
    }


def test_a_home_that_gets_a_file_begins_as_the_skeleton_and_is_the_users(
    deployment: Deployment,
) -> None:
    path = "/home/alice/.local/share/x"
    make_way(deployment, path, HOMES)
    deployment.write(MachineFile(path, "1\n", uid=1000, gid=1001))
    top = deployment.var / "home/alice"
    assert top.stat().st_mode & 0o7777 == 0o700
    assert (top / ".profile").read_text() == "umask 022\n"
    assert (top / "link").readlink() == Path("nowhere")
    found = owners(top)
    assert set(found.values()) == {(1000, 1001)}
    assert ".local/share/x" in found
    assert (top / ".local").stat().st_mode & 0o7777 == 0o755


def test_a_home_in_a_home_is_its_own_users(deployment: Deployment) -> None:
    make_way(deployment, "/home/alice/bot/a/x", HOMES)
    found = owners(deployment.var / "home/alice")
    assert found["bot/a"] == found["bot/.profile"] == (1002, 1002)
    assert found["."] == found[".profile"] == (1000, 1001)


def test_what_is_there_stays_as_it_is(deployment: Deployment) -> None:
    top = deployment.var / "home/alice"
    (top / "bin").mkdir(parents=True)
    os.chown(top, 5, 5)
    make_way(deployment, "/home/alice/bin/a/x", HOMES)
    assert owners(top) == {".": (5, 5), "bin": (0, 0), "bin/a": (1000, 1001)}


def test_a_user_of_the_image_gets_no_skeleton(deployment: Deployment) -> None:
    make_way(deployment, "/root/.config/x", HOMES)
    assert owners(deployment.var / "roothome") == {".": (0, 0), ".config": (0, 0)}


def test_elsewhere_nothing_is_made(deployment: Deployment) -> None:
    make_way(deployment, "/etc/app/x", HOMES)
    assert not (deployment.root / "etc/app").exists()
