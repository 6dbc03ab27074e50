"""A configuration becomes partitions, file systems and files on a disk; looked at without booting it."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.disk import btrfs_size
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import run
from bootc_build.tools import grub_fstest
from bootc_build.tools.e2fsprogs import read_file
from bootc_build.tools.sizes import GIB, MIB
from tests.disk.configured_disks import (
    Made,
    configurable_image,
    look,
    make,
)
from tests.disk.installed_trees import DEPLOYMENT

CONFIGURATION = """
size: 3 GiB
root: {filesystem: ext4, label: system}
boot: {size: 256 MiB}
esp: {size: 80 MiB}
swap: {size: 64 MiB, label: memory}
filesystems:
  - {mountpoint: /var/home, size: 100 MiB, options: [nodev]}
  - {mountpoint: /var/data, size: 300 MiB, filesystem: btrfs, partition-label: the-data,
     partition-uuid: 0194fdc2-fa2f-4cc0-81d3-ff12045b73c8}
kernel-arguments: [quiet]
hostname: node1
timezone: Europe/Berlin
users: [{name: alice, password: secret, groups: [sudo]}, {name: root, password-hash: $6$a$b}]
directories: [{path: /etc/app.d, mode: "0750", group: sudo}]
files: [{path: /etc/app.d/x, content: "1\\n", owner: alice}, {path: /home/note, content: "2\\n"}]
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with configurable_image(tmp_path_factory.mktemp("image")) as tag:
        yield tag


@pytest.fixture(scope="module")
def made(image: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(image, tmp_path_factory.mktemp("out"), CONFIGURATION)


def test_every_partition_has_the_size_and_file_system_that_was_said(made: Made) -> None:
    assert made.path.stat().st_size == 3 * GIB
    sizes = {name: size // MIB for name, (_start, size) in made.places.items()}
    assert list(sizes) == ["bios-boot", "esp", "boot", "swap", "home", "the-data", "root"]
    assert sizes.pop("root") > 2000
    assert sizes == {
        "bios-boot": 1, "esp": 80, "boot": 256, "swap": 64, "home": 100, "the-data": 300,
    }  # fmt: skip
    found = {
        name: (made.probe(name)["TYPE"], made.probe(name)["LABEL"])
        for name in ("boot", "swap", "home", "the-data", "root")
    }
    assert found == {
        "boot": ("ext4", "boot"),
        "swap": ("swap", "memory"),
        "home": ("ext4", "home"),
        "the-data": ("btrfs", "data"),
        "root": ("ext4", "system"),
    }
    assert "GUID:59" in run(["sfdisk", "--part-attrs", str(made.path), "7"]).stdout


def test_fstab_names_each_file_system_by_the_uuid_that_it_has(made: Made) -> None:
    uuids = {name: made.probe(name)["UUID"] for name in ("swap", "home", "the-data")}
    late = "x-systemd.device-timeout=10min"
    assert made.read("/etc/fstab").splitlines() == [
        "UUID=boot /boot ext4 defaults 0 2",
        f"UUID={uuids['swap']} none swap {late} 0 0",
        f"UUID={uuids['home']} /var/home ext4 nodev,{late} 0 2",
        f"UUID={uuids['the-data']} /var/data btrfs defaults,{late} 0 0",
    ]


def test_what_is_at_a_mount_point_is_in_its_file_system(made: Made, tmp_path: Path) -> None:
    home = made.ext4("home")
    assert read_file(home, "/of-the-image") == "moves along\n"
    assert read_file(home, "/note") == "2\n"
    run(["e2fsck", "-f", "-n", home.device])
    var = "/ostree/deploy/default/var"
    for point in ("home", "data"):
        listed = run(["debugfs", "-R", f"ls -p {var}/{point}", made.ext4("root").device]).stdout
        assert re.findall(r"/([^/]+)/[0-9]*/$", listed, re.MULTILINE) == [".", ".."]
    run(["btrfs", "check", "--readonly", str(made.extract("the-data", tmp_path))])


def test_settings_are_files_that_are_added(made: Made) -> None:
    assert made.read("/etc/hostname") == "node1\n"
    assert "../usr/share/zoneinfo/Europe/Berlin" in made.stat("/etc/localtime")
    assert made.read("/etc/app.d/x") == "1\n"
    folder, file = made.stat("/etc/app.d"), made.stat("/etc/app.d/x")
    assert re.search(r"Mode:\s+0750.*\nUser:\s+0\s+Group:\s+27", folder, re.DOTALL)
    assert re.search(r"User:\s+1000\s+Group:\s+0", file)
    assert "u alice 1000:1000" in made.read("/etc/sysusers.d/60-bootc-build-disk.conf")
    assert "alice" not in made.read("/etc/passwd")


def test_passwords_are_hashed_and_for_root_alone(made: Made) -> None:
    secret = made.read("/etc/credstore/passwd.hashed-password.alice")
    salt = secret.split("$")[2]
    again = run(["openssl", "passwd", "-6", "-salt", salt, "secret"]).stdout.strip()
    assert secret == again
    assert "Mode:  0600" in made.stat("/etc/credstore/passwd.hashed-password.alice")
    assert "Mode:  0700" in made.stat("/etc/credstore")
    assert made.read("/etc/shadow") == "root:$6$a$b:20000:0:99999:7:::\n"
    assert re.search(
        r"Mode:\s+0640.*\nUser:\s+0\s+Group:\s+42", made.stat("/etc/shadow"), re.DOTALL
    )


def test_the_same_configuration_makes_the_same_disk(image: str, made: Made, tmp_path: Path) -> None:
    # Without btrfs, whose ids mkfs.btrfs makes up.
    text = re.sub(r"  - \{mountpoint: /var/data.*?\}\n", "", CONFIGURATION, flags=re.DOTALL)
    one, two = (make(image, tmp_path / name, text) for name in ("one", "two"))
    run(["cmp", str(one.path), str(two.path)])
    other = make(image, tmp_path / "three", text.replace("node1", "node2"))
    assert other.probe("root")["UUID"] != one.probe("root")["UUID"]
    del made


def test_a_btrfs_root_holds_the_deployment(image: str, tmp_path: Path) -> None:
    disk = make(image, tmp_path / "out", "root: {filesystem: btrfs}")
    assert disk.probe("root")["TYPE"] == "btrfs"
    file = disk.extract("root", tmp_path)
    run(["btrfs", "check", "--readonly", str(file)])
    restored = tmp_path / "restored"
    restored.mkdir()
    run(["btrfs", "restore", str(file), str(restored)])
    shared = restored / DEPLOYMENT / "usr/bin/true"
    assert shared.read_bytes() == b"\x7fELF"


def test_a_btrfs_root_is_as_large_as_mkfs_btrfs_wants_it(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(btrfs_size, "wanted_by_mkfs", lambda _trees, **_how: GIB + MIB)
    disk = make(image, tmp_path / "out", "root: {filesystem: btrfs}")
    assert disk.places["root"][1] == GIB + MIB


VOLUMES = """
volume-group: {name: vg}
boot: {size: 256 MiB}
root: {volume: system, label: sys}
swap: {volume: swap, size: 64 MiB}
filesystems: [{mountpoint: /var/data, size: 99 MiB, volume: data}]
"""


def test_logical_volumes_hold_the_system(image: str, tmp_path: Path) -> None:
    disk = make(image, tmp_path / "out", VOLUMES)
    assert list(disk.places) == ["bios-boot", "esp", "boot", "lvm"]
    assert disk.probe("lvm")["TYPE"] == "LVM2_member"
    start, _size = disk.places["lvm"]
    group = tmp_path / "group"
    with group.open("wb") as file:
        file.truncate(disk.places["lvm"][1])
    place = ["conv=notrunc,sparse", f"skip={start}", "iflag=skip_bytes"]
    run(["dd", f"if={disk.path}", f"of={group}", "bs=1M", *place])
    said = run(["pvck", "--dump", "metadata", str(group)]).stdout
    names = re.findall(r"^(\w+) \{\nid", said, re.MULTILINE)[2:]
    counts = re.findall(r"extent_count = (\d+)", said)
    firsts = re.findall(r'"pv0", (\d+)', said)
    assert names == ["swap", "data", "system"]
    extent = 4 * MIB
    volumes = {
        name: (start + MIB + int(first) * extent, int(count) * extent)
        for name, first, count in zip(names, firsts, counts, strict=True)
    }
    assert volumes["data"][1] == 100 * MIB
    inside = replace(disk, places={**volumes, "root": volumes["system"]})
    kinds = {name: inside.probe(name)["TYPE"] for name in names}
    assert kinds == {"swap": "swap", "data": "ext4", "system": "ext4"}
    for name in ("data", "system"):
        run(["e2fsck", "-f", "-n", inside.ext4(name).device])
    assert f"UUID={inside.probe('data')['UUID']} /var/data ext4" in inside.read("/etc/fstab")
    # GRUB has a reader of its own.
    assert {f"lvm/vg-{name}" for name in names} <= set(grub_fstest.devices(disk.path))
    said_to_installer = grub_fstest.GrubTree(disk.path, "lvm/vg-system").read("/arguments")
    assert said_to_installer is not None
    assert b"--karg rd.lvm.lv=vg/system" in said_to_installer
    again = make(image, tmp_path / "again", VOLUMES)
    run(["cmp", str(disk.path), str(again.path)])


OLD = {
    "mkfs.xfs": ("mkfs.xfs version 6.13.0", "root: {filesystem: xfs}", "xfsprogs 6.17"),
    "mkfs.btrfs": (
        "mkfs.btrfs, part of btrfs-progs v6.2",
        "root: {filesystem: btrfs, subvolumes: [{name: root, mountpoint: /}]}",
        "btrfs-progs 6.12",
    ),
}


@pytest.mark.parametrize("program", OLD)
def test_programs_that_are_too_old_are_told_before_the_work(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    said, text, needed = OLD[program]
    path = tmp_path / "bin" / program
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\necho {said}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    with pytest.raises(UserError, match=needed) as refused:
        make(image, tmp_path / "out", text)
    assert "Neither on this machine nor in the image" in refused.value.fact
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_system_that_came_out_larger_than_its_partition_is_refused(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/mkfs.btrfs"
    program.parent.mkdir()
    enlarge = 'for last; do :; done; [ "$last" = -V ] || truncate -s +1M "$last"'
    program.write_text(f"#!/bin/sh\necho mkfs.btrfs, part of btrfs-progs v6.2\n{enlarge}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(
        UserError, match=r"mkfs.btrfs made a file system of .* for /, whose"
    ) as refused:
        make(image, tmp_path / "out", "root: {filesystem: btrfs}")
    assert "--size" in refused.value.remedy
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_below_a_home_leaves_the_home_its_users(image: str, tmp_path: Path) -> None:
    text = """
    users: [{name: alice}, {name: root, ssh-keys: [ssh-ed25519 AAAA]}]
    files: [{path: /home/alice/.config/app/x, owner: alice, group: alice}]
    """
    made = make(image, tmp_path, text, root_keys="one\n")
    var = "/ostree/deploy/default/var/home/alice"
    for path, mode in (("", "0700"), ("/.config", "0755"), ("/.config/app", "0755")):
        told = run(["debugfs", "-R", f"stat {var}{path}", made.ext4("root").device]).stdout
        assert re.search(rf"Mode:\s+{mode}.*\nUser:\s+1000\s+Group:\s+1000", told, re.DOTALL)
    # Root's keys, of which some are the flag's, have one line, and the installer has not heard of them.
    lines = made.read("/etc/tmpfiles.d/60-bootc-build-disk.conf").splitlines()
    [keys] = [line.split()[-1] for line in lines if "roothome/.ssh/authorized_keys" in line]
    assert base64.b64decode(keys) == b"one\nssh-ed25519 AAAA\n"
    assert "authorized-keys" not in read_file(made.ext4("root"), "/arguments")


def test_the_command_reads_a_file_and_its_flags_come_first(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[[customizations.filesystem]]\nmountpoint='/'\nminsize='2 GiB'\n")
    flags = ["--config", str(file), "--root-size", "500M", "--updates", "0", "--format", "json"]
    assert (
        main(["disk", image, "--output", str(tmp_path), "--target-imgref", "a.example/b", *flags])
        == 0
    )
    made = look(Path(json.loads(capsys.readouterr().out)[0]["path"]))
    assert made.places["root"][1] == 500 * MIB


def test_a_wrong_file_is_told_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "disk.yaml"
    file.write_text("root: {fs: ext4}")
    assert main(["disk", "any", "--config", str(file), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{file}: 'root.fs' is not a known key" in said
    assert "Known there: filesystem, label, minimum-size, size" in said
    assert not (tmp_path / "out").exists()
