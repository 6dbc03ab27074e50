"""`bootc install to-disk` for real, on a loop device with a small invented image."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.install import disk
from tests.host.invented_os import write_image

CHECKOUT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(),
    reason="needs root and loop devices",
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "image", tmp_path, version="1", kargs='kargs = ["quiet"]\n')
    return tmp_path / "image"


def bootc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: it enters a mount namespace."""
    return subprocess.run(
        ["/usr/bin/python3", "-m", "bootc_build.onhost", *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def to_disk(file: Path, image: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return bootc(
        "install",
        "to-disk",
        "--via-loopback",
        f"--source-imgref=oci:{image}:image",
        "--target-imgref=registry.example/os:1",
        *more,
        str(file),
    )


def sparse(path: Path, gib: int = 3) -> Path:
    with path.open("xb") as file:
        file.truncate(gib * 2**30)
    return path


def loops_of(file: Path) -> str:
    listed = ["losetup", "--list", "--noheadings", "--associated", str(file)]
    return subprocess.run(listed, check=True, capture_output=True, text=True).stdout


@contextmanager
def mounted(file: Path, number: int, point: Path) -> Iterator[Path]:
    """A partition of a disk file, read-only."""
    table = json.loads(
        subprocess.run(["sfdisk", "--json", file], check=True, capture_output=True).stdout
    )
    part = table["partitiontable"]["partitions"][number - 1]
    options = f"ro,loop,offset={part['start'] * 512},sizelimit={part['size'] * 512}"
    point.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", options, file, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("filesystem", ["ext4", "btrfs", "xfs"])
def test_a_file_becomes_a_disk_that_both_firmwares_can_boot(
    filesystem: str, image: Path, tmp_path: Path
) -> None:
    if not any(Path(folder, f"mkfs.{filesystem}").exists() for folder in ("/usr/sbin", "/sbin")):
        pytest.skip(f"there is no mkfs.{filesystem}")
    file = sparse(tmp_path / "disk.raw")
    done = to_disk(file, image, f"--filesystem={filesystem}", "--karg=console=ttyS0")
    assert done.returncode == 0, done.stderr
    assert loops_of(file) == ""
    with file.open("rb") as raw:
        assert raw.read(440).count(0) < 300, "there is code in the first sector"
    names = subprocess.run(
        ["mdir", "-i", f"{file}@@2M", "-/", "-b", "::"], check=True, capture_output=True, text=True
    ).stdout
    assert "EFI/BOOT/BOOTX64.EFI" in names
    attributes = ["sfdisk", "--part-attrs", str(file), "4"]
    said = subprocess.run(attributes, check=True, capture_output=True, text=True).stdout
    assert said == "GUID:59\n", "the root may grow"
    with mounted(file, 4, tmp_path / "root") as root:
        with mounted(file, 3, tmp_path / "boot") as boot:
            menu = (boot / "grub/grub.cfg").read_text()
            uuid = (root / "ostree/deploy/default/deploy").iterdir()
            deployment = next(path for path in uuid if path.is_dir())
            fstab = (deployment / "etc/fstab").read_text()
            assert not list((boot / "efi").iterdir())
        types = ["findmnt", "--noheadings", "--output", "FSTYPE,UUID", str(root)]
        kind, identifier = subprocess.run(
            types, check=True, capture_output=True, text=True
        ).stdout.split()
    assert kind == filesystem
    assert f"root=UUID={identifier} rw quiet console=ttyS0" in menu
    assert " /boot ext4 " in fstab


def test_disk_with_something_on_it_is_left_alone_without_wipe(image: Path, tmp_path: Path) -> None:
    file = sparse(tmp_path / "disk.raw")
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", file], check=True)
    before = subprocess.run(["blkid", "-p", file], check=True, capture_output=True).stdout
    done = to_disk(file, image)
    assert done.returncode == 1
    assert "is not empty: it has ext4." in done.stderr
    assert "--wipe" in done.stderr
    assert subprocess.run(["blkid", "-p", file], check=True, capture_output=True).stdout == before
    assert to_disk(file, image, "--wipe", "--root-size=1G").returncode == 0
    table = subprocess.run(["sfdisk", "--json", file], check=True, capture_output=True).stdout
    root = json.loads(table)["partitiontable"]["partitions"][3]
    assert root["size"] * 512 == 2**30
    assert "attrs" not in root


def test_disk_that_is_too_small_is_refused_and_let_go(image: Path, tmp_path: Path) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"\0" * 2**20)
    done = to_disk(file, image)
    assert done.returncode == 1
    assert "large enough" in done.stderr
    assert loops_of(file) == ""


@pytest.fixture
def app() -> Iterator[str]:
    """A tiny container image in this machine's storage."""
    name = "localhost/bootc-build-test/installed-app:1"
    from_scratch = ["buildah", "from", "scratch"]
    container = subprocess.run(
        from_scratch, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["buildah", "copy", "--quiet", container, "/bin/busybox", "/bin/"], check=True)
    subprocess.run(["buildah", "commit", "--quiet", "--rm", container, name], check=True)
    yield name
    subprocess.run(["podman", "rmi", "--force", name], check=True, capture_output=True)


def test_bound_images_are_copied_from_the_storage_here(app: str, tmp_path: Path) -> None:
    def bind(tree: Path) -> None:
        (tree / "usr/share/app.image").write_text(f"[Image]\nImage={app}\n")
        links = tree / "usr/lib/bootc/bound-images.d"
        links.mkdir()
        (links / "app.image").symlink_to("/usr/share/app.image")

    def make_share(tree: Path) -> None:
        (tree / "usr/share").mkdir()
        bind(tree)

    write_image(tmp_path / "image", tmp_path, version="1", spoil=make_share)
    file = sparse(tmp_path / "disk.raw")
    done = to_disk(file, tmp_path / "image")
    assert done.returncode == 0, done.stderr
    assert f"Copying bound image {app}" in done.stderr
    with mounted(file, 4, tmp_path / "root") as root:
        images = json.loads((root / "ostree/bootc/storage/overlay-images/images.json").read_text())
    assert [name for image in images for name in image["names"]] == [app]

    again = sparse(tmp_path / "again.raw")
    assert to_disk(again, tmp_path / "image", "--bound-images=skip").returncode == 0
    with mounted(again, 4, tmp_path / "root") as root:
        assert not (root / "ostree/bootc/storage").exists()


def test_a_file_is_no_disk_unless_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "disk.raw"
    file.touch()
    arguments = ["--source-imgref=oci:/x:y", "--target-imgref=registry.example/os:1", str(file)]
    assert main(["install", "to-disk", *arguments]) == 1
    assert "--via-loopback" in capsys.readouterr().err


def test_a_file_cannot_be_encrypted_by_a_tpm(tmp_path: Path, image: Path) -> None:
    file = sparse(tmp_path / "disk.raw")
    done = to_disk(file, image, "--block-setup=tpm2-luks")
    assert done.returncode == 1
    assert "only this machine's TPM would open it" in done.stderr
    assert loops_of(file) == ""
    assert file.stat().st_blocks == 0


@pytest.mark.parametrize(("text", "mib"), [("8192", 8192), ("8G", 8192), ("1T", 2**20), ("5m", 5)])
def test_root_size_is_in_mebibytes(text: str, mib: int) -> None:
    assert disk.parse_root_size(text) == mib
