"""The ext4 writer, against what mke2fs -d makes of the same folder, and against the folder itself."""

import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from bootc_build.disk.ext4.scan import BLOCK, scan
from bootc_build.onhost.errors import UserError
from bootc_build.tools.e2fsprogs import Ext4Slot, superblock
from tests.disk.ext4_disks import MIB, TIMESTAMP, asked, fill, require_sound

_UNTOLD = re.compile(
    r"^(EXTENTS|BLOCKS|ETB\d+).*\Z|Inode: \d+|Generation: \d+|Inode checksum: \w+|ACL: [1-9]\d*|\b(a|c|cr)time: [^\n]*",
    re.MULTILINE | re.DOTALL,
)


def described(slot: Ext4Slot, paths: list[str]) -> dict[str, str]:
    """All that debugfs says of each path but numbers of inodes and blocks, and the times that are ours to choose."""
    return {
        path: "\n".join(sorted(_UNTOLD.sub("", text).replace("File ACL: 0", "").splitlines()))
        for path, text in zip(
            paths, asked(slot, *(f'stat "{path}"' for path in paths)), strict=True
        )
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything."""
    folder = tmp_path_factory.mktemp("everything") / "tree"
    folder.mkdir()
    (folder / "empty").touch()
    (folder / "file").write_bytes(os.urandom(10_000))
    (folder / "block").write_bytes(os.urandom(BLOCK))
    (folder / "large").write_bytes(os.urandom(9 * MIB + 5))
    (folder / "zzz").hardlink_to(folder / "file")
    (folder / "set-user-id").write_text("x")
    os.chown(folder / "set-user-id", 70_000, 80_000)
    (folder / "set-user-id").chmod(0o6755)
    (folder / "fast").symlink_to("x" * 59)
    (folder / "slow").symlink_to("x" * 60)
    (folder / "slowest").symlink_to("x/" * 2000)
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "disk", stat.S_IFBLK | 0o600, os.makedev(300, 70_000))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    (folder / "many").mkdir(mode=0o1777)
    for number in range(700):
        (folder / "many" / f"{number:03}{'y' * (number % 90)}").write_text(f"{number}")
    (folder / "deep/er/est").mkdir(parents=True)
    (folder / "folders").mkdir()
    for number in range(50):
        (folder / "folders" / f"{number}").mkdir()
    (folder / "sparse").touch()
    # Some pieces fit into the inode, some into one more block, the rest into another.
    for name, pieces in (("sparse", 3), ("sparser", 100), ("sparsest", 400)):
        with (folder / name).open("wb") as file:
            file.truncate(55 * MIB + 1)
            for number in range(pieces):
                file.seek(number * (MIB // 8) + 17)
                file.write(b"piece")
    with (folder / "hole").open("wb") as file:
        file.truncate(5 * MIB + 1)
    attributed = folder / "attributed"
    attributed.touch()
    os.setxattr(attributed, "user.small", b"value")
    os.setxattr(attributed, "user.none", b"")
    os.setxattr(attributed, "trusted.large", os.urandom(3000))
    os.setxattr(attributed, "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    (folder / "listed").mkdir()
    acl = b"".join(
        number.to_bytes(size, "little")
        for entry in ((1, 7, -1), (2, 5, 1234), (4, 5, -1), (16, 5, -1), (32, 4, -1))
        for number, size in zip((entry[0], entry[1], entry[2] % (1 << 32)), (2, 2, 4), strict=True)
    )
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        os.setxattr(folder / "listed", name, (2).to_bytes(4, "little") + acl)
    for path in folder.rglob("*"):
        os.utime(path, (5, 1_234_567_890), follow_symlinks=False)
    os.utime(folder / "empty", (0, 0))
    os.utime(folder / "block", (TIMESTAMP + 5, TIMESTAMP + 5))
    return folder


@pytest.fixture(scope="module")
def made(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Ext4Slot:
    return fill(tree, tmp_path_factory.mktemp("made") / "disk")


def paths_in(tree: Path) -> list[str]:
    return ["/", *(f"/{path.relative_to(tree)}" for path in sorted(tree.rglob("*")))]


def test_it_is_sound(made: Ext4Slot) -> None:
    require_sound(made)


def test_it_says_the_same_of_every_file_as_that_of_mke2fs(
    tree: Path, made: Ext4Slot, tmp_path: Path
) -> None:
    other = Ext4Slot(tmp_path / "disk", 0, made.size)
    argv = ["mke2fs", "-q", "-t", "ext4", "-I", "256", "-b", "4096", "-d", str(tree)]
    subprocess.run([*argv, other.disk, "128M"], check=True)
    subprocess.run(["e2fsck", "-f", "-y", "-D", other.disk], check=False, capture_output=True)
    paths = paths_in(tree)
    # mke2fs leaves the folder itself as it is by itself, and turns no time back.
    paths.remove("/")
    paths.remove("/block")
    # The blocks of its own lie apart, and one more lists them.
    paths.remove("/many")
    # It makes holes of single blocks.
    for name in ("sparse", "sparser", "sparsest"):
        paths.remove(f"/{name}")
    ours, theirs = described(made, paths), described(other, paths)
    assert len(ours) > 700
    differing = [path for path in paths if ours[path] != theirs[path]]
    assert [(ours[path], theirs[path]) for path in differing] == []


def test_contents_are_those_of_the_folder(tree: Path, made: Ext4Slot, tmp_path: Path) -> None:
    asked(made, f"rdump / {tmp_path}")
    for path in tree.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            copy = tmp_path / path.relative_to(tree)
            assert copy.read_bytes() == path.read_bytes(), path
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    nodes = {"fifo", "null", "disk", "socket"}  # debugfs leaves them out
    assert (
        names - {"lost+found"} == {str(path.relative_to(tree)) for path in tree.rglob("*")} - nodes
    )


def test_attributes_are_those_of_the_folder(tree: Path, made: Ext4Slot, tmp_path: Path) -> None:
    attributed = tree / "attributed"
    for name in os.listxattr(attributed):
        asked(made, f"ea_get -f {tmp_path / 'value'} /attributed {name}")
        assert (tmp_path / "value").read_bytes() == os.getxattr(attributed, name), name


def seen_by_the_kernel(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about everything in a folder but the times that are ours to choose, and holes."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(folder))
        kind = stat.S_IFMT(status.st_mode)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_rdev),
            min(int(status.st_mtime), TIMESTAMP),
            path.readlink() if kind == stat.S_IFLNK else "",
            hashlib.sha256(path.read_bytes()).digest() if kind == stat.S_IFREG else b"",
            xattrs,
        )
    return found


def test_the_kernel_sees_what_is_in_the_folder(tree: Path, made: Ext4Slot, tmp_path: Path) -> None:
    options = f"loop,ro,offset={made.offset}"
    argv = ["mount", "-o", options, str(made.disk), str(tmp_path)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        seen = seen_by_the_kernel(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    del seen["lost+found"]
    assert seen == seen_by_the_kernel(tree)


def test_long_rows_of_zeros_become_holes(made: Ext4Slot) -> None:
    # In the last two, a block or two for the list of the pieces.
    for name, pieces, more in (
        ("hole", 0, 0),
        ("sparse", 3, 0),
        ("sparser", 100, 1),
        ("sparsest", 400, 2),
    ):
        (said,) = asked(made, f"stat /{name}")
        assert f"Blockcount: {(pieces * 16 + more) * 8}\n" in said


def test_holes_of_the_folder_do_not_matter(tmp_path: Path) -> None:
    content = os.urandom(MIB) + bytes(300_000) + os.urandom(MIB) + bytes(MIB)
    digests = []
    for name in ("written", "holes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "large").write_bytes(content)
        (tmp_path / name / "small").write_bytes(content[-400_000:])
    for path in (tmp_path / "holes").iterdir():
        subprocess.run(["fallocate", "--dig-holes", path], check=True)
        assert path.stat().st_blocks * 512 < path.stat().st_size
    for name in ("written", "holes"):
        slot = fill(tmp_path / name, tmp_path / f"{name}.disk")
        digests.append(hashlib.sha256(slot.disk.read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_no_time_is_younger_and_all_others_are_one(made: Ext4Slot) -> None:
    stamp, earlier = f"{TIMESTAMP:#x}", f"{1_234_567_890:#x}"
    for path, changed in (("/block", stamp), ("/file", earlier), ("/empty", "0x0")):
        (said,) = asked(made, f"stat {path}")
        times = dict(re.findall(r"(\w+time): (0x[0-9a-f]+):00000000", said))
        times = {name: f"{int(value, 16):#x}" for name, value in times.items()}
        assert times == {"atime": stamp, "ctime": stamp, "crtime": stamp, "mtime": changed}


def test_objects_have_no_time(tmp_path: Path) -> None:
    objects = tmp_path / "tree/objects"
    (objects / "aa").mkdir(parents=True)
    (objects / "aa/shared").touch()
    (objects / "aa/own").touch()
    (tmp_path / "tree/a").hardlink_to(objects / "aa/shared")
    for path in (objects / "aa/shared", objects / "aa/own", objects / "aa", objects):
        os.utime(path, (5, 1234))
    scanned = scan(tmp_path / "tree", TIMESTAMP, timeless=os.fsencode(objects))
    times = {node.path.rpartition(b"/")[2]: node.mtime for node in scanned.nodes[1:]}
    assert times == {b"a": 0, b"aa": 0, b"own": 0, b"objects": 1234}


def test_large_directories_are_indexed(made: Ext4Slot) -> None:
    (said,) = asked(made, "stat /many")
    found = re.search(r"Flags: (0x[0-9a-f]+)", said)
    assert found
    assert int(found[1], 16) & 0x1000
    assert "metadata_csum" in superblock(made)["Filesystem features"]


def test_contents_lie_in_the_order_of_their_paths(tree: Path, made: Ext4Slot) -> None:
    paths = sorted(path for path in (tree / "many").iterdir())
    said = asked(made, *(f"blocks /many/{path.name}" for path in paths))
    blocks = [int(line.split()[0]) for line in said]
    assert blocks == sorted(blocks)
    assert blocks[-1] - blocks[0] == len(paths) - 1


def test_the_flag_of_immutability_is_set_where_it_was_asked_for(tree: Path, tmp_path: Path) -> None:
    slot = fill(tree, tmp_path / "disk", immutable="deep")
    flags = [
        int(re.search(r"Flags: (0x[0-9a-f]+)", said)[1], 16)  # type: ignore[index]
        for said in asked(slot, "stat /deep", "stat /deep/er")
    ]
    assert [each & 0x10 for each in flags] == [0x10, 0]
    require_sound(slot)


def test_the_same_folder_gives_the_same_bytes(tree: Path, made: Ext4Slot, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    slot = fill(copy, tmp_path / "disk")
    assert slot.disk.read_bytes() == made.disk.read_bytes()


def test_files_across_several_groups(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(3):
        with (tmp_path / f"tree/{number}").open("wb") as file:
            for place in range(150):
                file.write(bytes([number, place]) * (MIB // 2))
    slot = fill(tmp_path / "tree", tmp_path / "disk", 600 * MIB)
    require_sound(slot)
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    (tmp_path / "copy").mkdir()
    asked(slot, f"rdump / {tmp_path / 'copy'}")
    for number in range(3):
        done = subprocess.run(
            ["cmp", tmp_path / f"tree/{number}", tmp_path / f"copy/{number}"], check=False
        )
        assert done.returncode == 0


def test_the_folder_that_e2fsck_wants_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "tree/lost+found").mkdir(parents=True)
    (tmp_path / "tree/lost+found/kept").write_text("kept")
    slot = fill(tmp_path / "tree", tmp_path / "disk")
    require_sound(slot)
    assert asked(slot, "cat /lost+found/kept") == ["kept"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/lost+found").touch()
    with pytest.raises(UserError, match=r"other/lost\+found is not a folder"):
        fill(tmp_path / "other", tmp_path / "another")
