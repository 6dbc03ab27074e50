"""What a killed fetch leaves in /var/tmp goes with the next one; what is in use stays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_build.onhost.oci import scratch
from bootc_build.onhost.oci.imageproxy import open_image
from bootc_build.onhost.oci.reference import ImageReference
from tests.onhost.oci_images import File, write_image

_FETCH = """
import sys
from pathlib import Path
from bootc_build.onhost.oci import scratch

scratch.LARGE_FILES = Path(sys.argv[1])
with scratch.fetch_folder() as folder:
    (folder / "skopeo").mkdir()
    (folder / "skopeo/blob").write_text("half of a layer")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "large"
    folder.mkdir()
    monkeypatch.setattr(scratch, "LARGE_FILES", folder)
    return folder


@contextmanager
def fetching(parent: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """Another process that is just fetching, and its folder."""
    command = [sys.executable, "-c", _FETCH, str(parent)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip()), process
        finally:
            process.kill()


def test_the_next_fetch_sweeps_what_a_killed_one_left(large_files: Path) -> None:
    with fetching(large_files) as (folder, process):
        process.kill()
        process.wait()
        assert (folder / "skopeo/blob").exists()
    with scratch.fetch_folder() as own:
        assert list(large_files.iterdir()) == [own]
    assert list(large_files.iterdir()) == []


def test_a_folder_in_use_stays(large_files: Path) -> None:
    with fetching(large_files) as (folder, process), scratch.fetch_folder() as own:
        # Another thread's, too.
        with scratch.fetch_folder() as second:
            assert set(large_files.iterdir()) == {folder, own, second}
        scratch.sweep()
        assert set(large_files.iterdir()) == {folder, own}
        assert (folder / "skopeo/blob").exists()
        process.communicate("")
        assert process.returncode == 0
        assert list(large_files.iterdir()) == [own]


def test_opening_an_image_sweeps(large_files: Path, tmp_path: Path) -> None:
    dead = large_files / "bootc-fetch-deadbeef"
    dead.mkdir()
    (dead / "lock").touch()
    image = write_image(tmp_path / "layout", [[File("usr/a", data=b"x")]])
    with open_image(ImageReference.parse_transport_qualified(image.skopeo)):
        assert not dead.exists()
        [own] = large_files.iterdir()
        assert own.name.startswith("bootc-fetch-")
    assert list(large_files.iterdir()) == []


def test_what_is_no_dead_fetch_of_this_user_stays(large_files: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch()
    (large_files / "bootc-fetch-link").symlink_to(precious)
    lockless = large_files / "bootc-fetch-lockless"
    lockless.mkdir()
    linked = large_files / "bootc-fetch-linked"
    linked.mkdir()
    (linked / "lock").symlink_to(precious / "lock")
    others = large_files / "bootc-fetch-others"
    others.mkdir()
    (others / "lock").touch()
    if os.geteuid() == 0:
        os.chown(others, 65534, 65534)
        os.chown(others / "lock", 65534, 65534)
    there = set(large_files.iterdir())
    scratch.sweep()
    left = set(large_files.iterdir())
    assert left == there if os.geteuid() == 0 else there - {others}
    assert (precious / "lock").exists()
