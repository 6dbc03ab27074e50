"""What is installed from the wheel is whole: programs, plugin, and all files that go into images and guests."""

import configparser
import filecmp
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.image.base_tree import copy_image_root

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, PROJECT], check=True
    )
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder, wheel], check=True
    )
    return folder


def _python(installed: Path, cwd: Path, *arguments: str) -> str:
    """Run Python with the installed package before this checkout's; what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def _files(package: Path) -> Iterator[str]:
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(package.parent))


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(_files(PROJECT / "bootc_build"))
    assert {
        "bootc_build/data/image_root/usr/bin/bootc",
        "bootc_build/vm/guest_shell.sh",
        "bootc_build/testing/report/report.js",
        "bootc_build/py.typed",
    } <= names


def test_programs_and_plugin_are_declared(wheel: Path) -> None:
    parser = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if one.endswith("entry_points.txt")]
        parser.read_string(archive.read(name).decode())
    assert parser["console_scripts"]["bootc-build"] == "bootc_build.cli.main:main"
    assert parser["pytest11"]["bootc_build"] == "bootc_build.testing.plugin"


def test_images_get_the_same_files_from_the_installed_package(
    installed: Path, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for tree in (ours, theirs):
        tree.mkdir()
    copy_image_root(ours)
    program = (
        "import sys; from pathlib import Path; import bootc_build;"
        "from bootc_build.image.base_tree import copy_image_root;"
        "copy_image_root(Path(sys.argv[1])); print(bootc_build.__file__)"
    )
    place = _python(installed, tmp_path, "-c", program, str(theirs)).strip()
    assert Path(place).is_relative_to(installed)
    trees = [
        sorted((str(path.relative_to(tree)), path.lstat().st_mode) for path in tree.rglob("*"))
        for tree in (ours, theirs)
    ]
    assert trees[0] == trees[1]
    names = [name for name, _mode in trees[0] if (ours / name).is_file()]
    assert "usr/lib/bootc/python/bootc_build/onhost/cli/main.py" in names
    assert filecmp.cmpfiles(ours, theirs, names, shallow=False)[1:] == ([], [])


def test_the_installed_plugin_reports(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import bootc_build.testing.plugin as plugin\n"
        f"def test_it(): assert plugin.__file__.startswith({str(installed)!r})\n"
    )
    _python(installed, tmp_path, "-m", "pytest", "--bootc-report=report.html", "test_it.py")
    assert "1 passed" in (tmp_path / "report.html").read_text()


def test_the_installed_command_knows_its_verbs(installed: Path, tmp_path: Path) -> None:
    said = _python(installed, tmp_path, "-m", "bootc_build.cli.main", "test", "--help")
    assert "--upgrade-to" in said
