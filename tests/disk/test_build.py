import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.disk.bootable import NotBootableError
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.ec2 import CloudInit, NotForEc2Error
from bootc_build.disk.formats import DiskType
from bootc_build.disk.preflight import full_disk_explained, space_needed
from bootc_build.disk.verify import build_disk_twice
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Silent
from bootc_build.tools.buildah import remove_image
from bootc_build.tools.podman import ImageNotFoundError, image_store
from bootc_build.tools.sizes import GIB, MIB
from tests.disk.stand_in_image import KERNEL, make_stand_in_image
from tests.kernels import small_kernel

TARGET = parse_target("registry.example/os:v1")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tag = f"localhost/bootc-build-test/disk-{secrets.token_hex(4)}:1"
    make_stand_in_image(tag, tmp_path_factory.mktemp("image"))
    yield tag
    remove_image(tag)


@pytest.fixture
def request_(image: str, tmp_path: Path) -> DiskRequest:
    return DiskRequest(image, [DiskType.RAW], tmp_path / "out", size=3 * GIB, target=TARGET)


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)])
    yield folder
    run(["umount", str(folder)])


def leftovers(image: str, output: Path) -> list[str]:
    """Working containers of the image, and processes that have something of this build mounted."""
    containers = run(["buildah", "containers", "--json"]).stdout
    names = [
        str(found["containername"])
        for found in json.loads(containers) or ()
        if found["imagename"] == image
    ]
    # Others build disks at the same time: a process of ours sees our folder, or was told of it.
    ours = f"{output}/.bootc-build-".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            mounts = (process / "mountinfo").read_bytes()
        except OSError:
            continue
        if ours in command or ours in mounts:
            names.append(command.decode(errors="replace"))
    return names


def mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f" {folder}/" in line]


def test_raw_and_qcow2_of_one_build_hold_the_same_disk(request_: DiskRequest) -> None:
    request = replace(request_, types=[DiskType.RAW, DiskType.QCOW2], name="os")
    written = build_disk(request, Silent())
    assert {disk.path.name for disk in written} == {"os.raw", "os.qcow2"}
    assert sorted(path.name for path in request.output.iterdir()) == [
        "os.manifest.json",
        "os.qcow2",
        "os.raw",
    ]
    assert all(disk.disk_bytes == 3 * GIB for disk in written)
    raw, qcow2 = (request.output / name for name in ("os.raw", "os.qcow2"))
    info = json.loads(run(["qemu-img", "info", "--output=json", str(qcow2)]).stdout)
    assert info["format"] == "qcow2"
    assert info["format-specific"]["data"]["compression-type"] == "zstd"
    run(["qemu-img", "check", str(qcow2)])
    run(["qemu-img", "compare", str(raw), str(qcow2)])
    assert leftovers(request.image, request.output) == []


def test_manifest_describes_every_file_of_the_build(request_: DiskRequest) -> None:
    types = [kind for kind in DiskType if kind is not DiskType.AMI]
    written = build_disk(replace(request_, types=types), Silent())
    document = json.loads((request_.output / "disk.manifest.json").read_text())
    assert [disk["type"] for disk in document["disks"]] == [kind.value for kind in types]
    assert document["image"]["name"] == request_.image
    assert document["target"] == TARGET.to_origin()
    for disk, one in zip(document["disks"], written, strict=True):
        file = request_.output / disk["file"]
        assert file == one.path
        assert disk["fileBytes"] == file.stat().st_size
        assert disk["diskBytes"] == 3 * GIB
        assert disk["sha256"] == run(["sha256sum", str(file)]).stdout.split()[0]
    names = {path.name for path in request_.output.iterdir()}
    assert names == {"disk.manifest.json", *(disk["file"] for disk in document["disks"])}


def test_an_image_that_ec2_could_not_use_is_refused(request_: DiskRequest) -> None:
    with pytest.raises(NotForEc2Error) as refused:
        build_disk(replace(request_, types=[DiskType.RAW, DiskType.AMI]), Silent())
    assert "cloud-init" in refused.value.fact
    assert list(request_.output.iterdir()) == []


def test_a_size_that_no_volume_has_is_refused_at_once(request_: DiskRequest) -> None:
    with pytest.raises(UsageError, match="cannot be a volume") as refused:
        build_disk(replace(request_, types=[DiskType.GCE], size=3 * GIB + MIB), Silent())
    assert "4G" in refused.value.remedy
    assert not request_.output.exists()


def test_installer_is_told_target_file_systems_and_consoles(request_: DiskRequest) -> None:
    request = replace(request_, kargs=("quiet",), cloud_init=CloudInit.NONE)
    [disk] = build_disk(request, Silent())
    table = json.loads(run(["sfdisk", "--json", str(disk.path)]).stdout)
    boot, root = (part["start"] * 512 for part in table["partitiontable"]["partitions"][2:])
    uuids = [
        re.search(
            r"Filesystem UUID:\s+(\S+)", run(["dumpe2fs", "-h", f"{disk.path}?offset={o}"]).stdout
        )
        for o in (root, boot)
    ]
    assert all(uuids)
    told = run(["debugfs", "-R", "cat /arguments", f"{disk.path}?offset={root}"]).stdout
    for expected in (
        "--source-imgref oci:/run/bootc-build/src:image",
        "--target-imgref docker://registry.example/os:v1",
        f"--root-mount-spec UUID={uuids[0] and uuids[0][1]}",
        f"--boot-mount-spec UUID={uuids[1] and uuids[1][1]}",
        "--karg console=tty0 --karg console=ttyS0,115200n8 --karg quiet --karg cloud-init=disabled",
    ):
        assert expected in told


def test_roots_keys_reach_the_installer(request_: DiskRequest) -> None:
    [disk] = build_disk(replace(request_, root_keys="ssh-ed25519 AAAA me\n"), Silent())
    root = f"{disk.path}?offset={1154 * MIB}"
    assert "ssh-ed25519 AAAA me" in run(["debugfs", "-R", "cat /keys", root]).stdout


def test_a_console_of_the_users_choice_replaces_the_default_ones(request_: DiskRequest) -> None:
    [disk] = build_disk(replace(request_, kargs=("console=hvc0",)), Silent())
    told = run(["debugfs", "-R", "cat /arguments", f"{disk.path}?offset={1154 * MIB}"]).stdout
    assert re.findall(r"console=\S+", told) == ["console=hvc0"]


def test_output_may_be_a_relative_path(
    request_: DiskRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [disk] = build_disk(replace(request_, output=Path("below/here")), Silent())
    assert disk.path == Path("below/here/disk.raw")
    assert (tmp_path / disk.path).stat().st_size == 3 * GIB


def test_an_older_disk_is_replaced(request_: DiskRequest) -> None:
    request_.output.mkdir()
    (request_.output / "disk.raw").write_text("old")
    build_disk(request_, Silent())
    assert (request_.output / "disk.raw").stat().st_size == 3 * GIB


def test_files_of_an_earlier_build_are_named(request_: DiskRequest) -> None:
    request_.output.mkdir()
    old = request_.output / "disk.qcow2"
    old.write_text("old")
    said: list[str] = []

    class Listening(Silent):
        def step(self, text: str) -> None:
            said.append(text)

    build_disk(request_, Listening())
    assert f"'{old}' is not of this build, and not in its manifest" in said
    assert old.read_text() == "old"
    assert not any("disk.raw' is not of this build" in line for line in said)


def test_an_image_that_is_not_there_is_named(request_: DiskRequest) -> None:
    with pytest.raises(ImageNotFoundError, match="no-such-image"):
        build_disk(replace(request_, image="localhost/no-such-image:1"), Silent())
    assert not request_.output.exists()


def test_too_small_a_disk_is_refused_before_anything_is_written(request_: DiskRequest) -> None:
    with pytest.raises(UsageError, match="too small"):
        build_disk(replace(request_, size=GIB), Silent())
    assert not request_.output.exists()


def test_everything_that_an_image_lacks_is_told_at_once(
    request_: DiskRequest, tmp_path: Path
) -> None:
    tag = f"localhost/bootc-build-test/disk-bad-{secrets.token_hex(4)}:1"
    without = (f"{KERNEL}/initramfs.img", "usr/lib/shim")
    make_stand_in_image(tag, tmp_path, without=without, kernel=small_kernel()[:-1])
    try:
        with pytest.raises(NotBootableError) as refused:
            build_disk(replace(request_, image=tag), Silent())
    finally:
        remove_image(tag)
    assert "initramfs.img" in refused.value.fact
    assert "is not whole: its header tells of 2560 bytes" in refused.value.fact
    assert "shim-signed" in refused.value.fact
    assert list(request_.output.iterdir()) == []


def test_missing_programs_are_told_at_once_with_their_packages(
    request_: DiskRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = tmp_path / "bin"
    there.mkdir()
    monkeypatch.setattr("bootc_build.onhost.process.shutil.which", lambda *_a, **_k: None)
    with pytest.raises(UserError, match=r"sfdisk.*mcopy.*qemu-img") as refused:
        build_disk(replace(request_, types=[DiskType.QCOW2]), Silent())
    assert "fdisk" in refused.value.remedy
    assert "mtools qemu-utils" in refused.value.remedy


def test_a_failing_installer_is_quoted_and_nothing_is_left(request_: DiskRequest) -> None:
    with pytest.raises(UserError, match="the installer says why"):
        build_disk(replace(request_, kargs=("stand-in=fail",)), Silent())
    assert list(request_.output.iterdir()) == []
    assert leftovers(request_.image, request_.output) == []


@pytest.mark.parametrize(
    "lost",
    ["boot/grub/i386-pc/core.img", "boot/grub/i386-pc/boot.img", "boot/efi/EFI/BOOT/BOOTX64.EFI"],
)
def test_a_disk_that_no_firmware_would_start_is_not_made(request_: DiskRequest, lost: str) -> None:
    with pytest.raises(NotBootableError, match=f"its installer left no /{lost}"):
        build_disk(replace(request_, kargs=(f"stand-in=lose:{lost}",)), Silent())
    assert list(request_.output.iterdir()) == []


@pytest.mark.parametrize("filling", [250, 130], ids=["while installing", "while writing the disk"])
def test_a_full_disk_is_told_and_nothing_is_left(
    request_: DiskRequest, small_file_system: Path, filling: int
) -> None:
    request = replace(request_, output=small_file_system, kargs=(f"stand-in=fill:{filling}",))
    with pytest.raises(UserError, match="No space is left in"):
        build_disk(request, Silent())
    assert list(small_file_system.iterdir()) == []
    assert leftovers(request.image, request.output) == []


def test_too_little_space_is_known_beforehand(
    request_: DiskRequest, small_file_system: Path
) -> None:
    (small_file_system / "ballast").write_bytes(bytes(100 * MIB))
    with pytest.raises(UserError, match=r"takes about .* are free"):
        build_disk(replace(request_, output=small_file_system), Silent())
    assert [path.name for path in small_file_system.iterdir()] == ["ballast"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process may have 2 GiB, as on a file system that has no larger ones."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_the_file_system_cannot_hold_in_one_file_is_known_beforehand(
    request_: DiskRequest,
) -> None:
    with pytest.raises(UserError, match="has no files so large as a disk of 3 GiB") as refused:
        build_disk(replace(request_, kargs=("stand-in=fail",)), Silent())
    assert "--output" in refused.value.remedy
    assert list(request_.output.iterdir()) == []


@pytest.mark.usefixtures("small_files")
def test_a_file_that_turns_out_too_large_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="has no files so large as this disk"),
        full_disk_explained(tmp_path),
        (tmp_path / "disk").open("wb") as file,
    ):
        file.truncate(3 * GIB)


def test_too_little_space_for_two_builds_is_known_before_the_first(
    request_: DiskRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with image_store() as store:
        size = store.get(request_.image).size_bytes
    enough_for_one = space_needed(size, request_.types)
    assert space_needed(size, request_.types, builds=2) > enough_for_one
    usage = shutil.disk_usage("/")._replace(free=enough_for_one)
    monkeypatch.setattr("bootc_build.disk.preflight.shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(UserError, match="takes about"):
        build_disk_twice(request_, Silent())
    assert list(request_.output.iterdir()) == []


@pytest.mark.parametrize("moment", ["own installer", "now hanging"])
@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_stopping_it_leaves_nothing(
    image: str, tmp_path: Path, sent: signal.Signals, status: int, moment: str
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "bootc_build.cli.main", "disk", image, "--output", str(output)]
    with subprocess.Popen(
        [*command, "-v", "--karg", "stand-in=hang"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if moment in line:
                break
        if sent is signal.SIGINT:
            os.killpg(process.pid, sent)  # a terminal sends it to the whole group
        else:
            process.send_signal(sent)
        process.stderr.read()
        assert process.wait(60) == status
    assert list(output.iterdir()) == []
    assert leftovers(image, output) == []
    assert mounts_below(output) == []
