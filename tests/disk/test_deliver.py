import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootc_build.disk.checksums import Checksums
from bootc_build.disk.deliver import (
    Provenance,
    WrittenDisk,
    check_names,
    manifest,
    publish,
)
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import MIB

NAMES = ("os.raw", "os.qcow2", "os.manifest.json")


@pytest.fixture
def finished(tmp_path: Path) -> dict[Path, Path]:
    """New files, and old ones of the same names where they go; the manifest is the last."""
    for folder in ("new", "out", "spare"):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        (tmp_path / "new" / name).write_text(f"new {name}")
        (tmp_path / "out" / name).write_text(f"old {name}")
    return {tmp_path / "new" / name: tmp_path / "out" / name for name in NAMES}


def out(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file()}


def test_old_files_are_replaced(finished: dict[Path, Path], tmp_path: Path) -> None:
    publish(finished, tmp_path / "new/os.manifest.json", tmp_path / "spare")
    assert out(tmp_path) == {name: f"new {name}" for name in NAMES}


@pytest.mark.parametrize("suffix", ["qcow2", "ami.raw", "manifest.json"])
def test_a_folder_of_the_name_is_never_replaced(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"os.{suffix}").mkdir()
    with pytest.raises(UsageError, match=f"os.{suffix}' is a folder"):
        check_names(tmp_path, "os", [DiskType.QCOW2, DiskType.AMI])
    check_names(tmp_path, "other", [DiskType.QCOW2, DiskType.AMI])


@pytest.mark.parametrize("refused", NAMES)
def test_a_refused_name_leaves_all_old_files(
    finished: dict[Path, Path], tmp_path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.name == "new" and self.name == refused:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        publish(finished, tmp_path / "new/os.manifest.json", tmp_path / "spare")
    assert out(tmp_path) == {name: f"old {name}" for name in NAMES}


def test_where_nothing_was_nothing_stays(
    finished: dict[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / "out" / name).unlink()
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "os.qcow2":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        publish(finished, tmp_path / "new/os.manifest.json", tmp_path / "spare")
    assert out(tmp_path) == {}


def test_the_manifest_is_never_there_with_half_of_its_files(
    finished: dict[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for method in ("replace", "rename"):
        original = getattr(Path, method)

        def noted(self: Path, target: Path, original: object = original) -> object:
            assert callable(original)
            done = original(self, target)
            states.append(out(tmp_path))
            return done

        monkeypatch.setattr(Path, method, noted)
    publish(finished, tmp_path / "new/os.manifest.json", tmp_path / "spare")
    assert len(states) == 6  # three set aside, three put in place
    for state in states:
        words = {text.split()[0] for text in state.values()}
        assert "os.manifest.json" not in state or (len(state) == 3 and len(words) == 1)


_INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path

from bootc_build.disk.deliver import publish

threads, moment, names = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
for _ in range(threads):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
replace, moves = Path.replace, []

def interrupted(self, target):
    moves.append(self)
    if len(moves) == moment:
        os.kill(os.getpid(), signal.SIGINT)
    return replace(self, target)

Path.replace = interrupted
try:
    publish({Path("new") / name: Path("out") / name for name in names}, Path("new") / names[-1], Path("spare"))
    threading.Event().wait(30)  # another thread may take the signal, a moment later
except KeyboardInterrupt:
    sys.exit(130)
"""


# In a program of its own: the signal is for a whole process, and this one's belongs to pytest.
@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("moment", [1, 3])
def test_ctrl_c_waits_until_all_are_in_place(threads: int, moment: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, str(threads), str(moment), *NAMES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert out(tmp_path) == {name: f"new {name}" for name in NAMES}


@pytest.mark.parametrize(
    "pieces",
    [[], [(0, 1)], [(5_000_000, 3)], [(0, 1), (3 * MIB + 7, 2 * MIB)], [(8 * MIB - 1, 1)]],
)
def test_checksum_is_that_of_all_bytes_holes_included(
    tmp_path: Path, pieces: list[tuple[int, int]]
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(8 * MIB)
        for at, length in pieces:
            file.seek(at)
            file.write(b"x" * length)
    with Checksums() as checksums:
        begun = checksums.begin(tmp_path / "file")
        (tmp_path / "file").rename(tmp_path / "renamed")
        digest = begun.result()
    assert digest == hashlib.sha256((tmp_path / "renamed").read_bytes()).hexdigest()


def test_what_is_not_finished_is_given_up(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 43)  # 8 TiB of nothing take an hour
    with Checksums() as checksums:
        begun = checksums.begin(tmp_path / "file")
    assert begun.done()


def test_manifest_has_names_sizes_and_checksums(tmp_path: Path) -> None:
    files = [tmp_path / "os.raw", tmp_path / "os.qcow2"]
    for file in files:
        file.write_text(file.name)
    with Checksums() as checksums:
        digests = [checksums.begin(file).result() for file in files]
    disks = [
        WrittenDisk(DiskType(file.suffix[1:]), file, 1 << 30, 4096, len(file.name), digest)
        for file, digest in zip(files, digests, strict=True)
    ]
    document = json.loads(manifest(Provenance("os:1", "cd", "sha256:ab", "registry:os"), disks))
    assert document["image"] == {"name": "os:1", "id": "cd", "digest": "sha256:ab"}
    assert document["target"] == "registry:os"
    assert document["disks"] == [
        {
            "type": file.suffix[1:],
            "file": file.name,
            "diskBytes": 1 << 30,
            "fileBytes": len(file.name),
            "sha256": hashlib.sha256(file.name.encode()).hexdigest(),
        }
        for file in files
    ]


@pytest.mark.parametrize("front", [0, 1, 4096, 700_000, 5_000_000, 9_000_000])
def test_a_checksum_that_began_with_the_front_is_the_files(tmp_path: Path, front: int) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(9_000_000)
        file.write(os.urandom(700_000))
    with Checksums() as checksums:
        checksums.advance(disk, front)
        with disk.open("r+b") as file:
            file.seek(max(front, 6_000_000))
            file.write(b"written later"[: 9_000_000 - file.tell()])
        assert checksums.begin(disk).result() == hashlib.sha256(disk.read_bytes()).hexdigest()


def test_a_checksum_follows_what_is_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(40 * MIB)
    with Checksums() as checksums, disk.open("r+b", buffering=0) as file:
        for piece in range(30):
            # Every third stays a hole.
            if piece % 3:
                os.pwrite(file.fileno(), os.urandom(MIB + 5), piece * MIB)
            checksums.advance(disk, (piece + 1) * MIB)
        assert checksums.begin(disk).result() == hashlib.sha256(disk.read_bytes()).hexdigest()


def test_a_checksum_that_nobody_goes_on_with_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(100))
    with Checksums() as checksums:
        checksums.advance(tmp_path / "disk", 50)
    before = threading.active_count()
    with Checksums() as checksums:
        checksums.advance(tmp_path / "disk", 0)
    assert threading.active_count() == before


def test_a_file_that_cannot_go_to_the_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with Checksums() as checksums:
        checksums.begin_sync(tmp_path / "there").result()
        with pytest.raises(FileNotFoundError):
            checksums.begin_sync(tmp_path / "gone").result()
