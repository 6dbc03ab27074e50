"""`bootc internals fsck --repair`: what is damaged comes back from the image, and what runs stays as it is."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.pretend_boot import BOOTC, PretendHost, publish


@pytest.fixture
def upgraded(host: PretendHost) -> PretendHost:
    """Version 2 is booted, and came by an upgrade; version 1 is the rollback."""
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    host.bootc("upgrade")  # finds nothing, and tidies up
    return host


def fsck(host: PretendHost, *more: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    done = host.execute(*BOOTC, "internals", "fsck", "--format=json", *more)
    assert done.stdout, done.stderr
    # Version 1 was not imported, so its layer is not stored, which is no error.
    checks = [each for each in json.loads(done.stdout)["checks"] if each["name"] != "layers"]
    return done.status, {each["name"]: each["findings"] for each in checks if each["findings"]}


def objects(host: PretendHost) -> Path:
    return host.sysroot / "ostree/repo/objects"


def file_object(host: PretendHost, path: str) -> Path:
    """The object of a file of the booted deployment."""
    inode = (host.root / path).lstat().st_ino
    return next(each for each in objects(host).glob("*/*.file") if each.lstat().st_ino == inode)


def directory_object(host: PretendHost, path: str, kind: int) -> Path:
    command = ["ostree", "ls", f"--repo={host.sysroot}/ostree/repo", "-dC", host.root.name[:64]]
    listed = subprocess.run([*command, path], check=True, capture_output=True, text=True).stdout
    checksum = listed.split()[4 + kind]
    return objects(host) / checksum[:2] / f"{checksum[2:]}.{('dirtree', 'dirmeta')[kind]}"


def entries(host: PretendHost) -> dict[str, bytes]:
    folder = host.sysroot / "boot/loader/entries"
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def corrupt(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("damage", [Path.unlink, truncate, corrupt])
def test_a_damaged_file_comes_back_in_repository_and_deployment(
    upgraded: PretendHost, damage: Callable[[Path], None]
) -> None:
    before = entries(upgraded)
    lost = file_object(upgraded, "usr/lib/version")
    damage(lost)
    status, found = fsck(upgraded)
    assert (status, found["objects"][0]["repairable"]) == (1, True)
    status, found = fsck(upgraded, "--repair")
    assert (status, found["objects"][0]["repaired"]) == (0, True), found
    assert (upgraded.root / "usr/lib/version").read_text() == "2"
    assert (upgraded.root / "usr/lib/version").samefile(lost)
    assert fsck(upgraded) == (0, {})
    assert entries(upgraded) == before


@pytest.mark.parametrize("kind", [0, 1])
def test_a_damaged_directory_and_what_is_below_come_back(upgraded: PretendHost, kind: int) -> None:
    """The damage below is only seen when the directory is whole again."""
    lost = file_object(upgraded, "usr/lib/version")
    directory_object(upgraded, "/usr/lib", kind).unlink()
    truncate(lost)
    status, found = fsck(upgraded, "--repair")
    assert status == 0, found
    assert fsck(upgraded) == (0, {})
    assert (upgraded.root / "usr/lib/version").read_text() == "2"


def test_a_layer_without_its_commit_is_fetched_again(upgraded: PretendHost) -> None:
    repo = upgraded.sysroot / "ostree/repo"
    (ref,) = (repo / "refs/heads/ostree/container/blob").iterdir()
    checksum = ref.read_text().strip()
    (objects(upgraded) / checksum[:2] / f"{checksum[2:]}.commit").write_bytes(b"")
    file_object(upgraded, "usr/lib/version").unlink()
    status, found = fsck(upgraded, "--repair")
    assert status == 0, found
    assert ref.read_text().strip() == checksum
    assert fsck(upgraded) == (0, {})


def test_nothing_is_taken_out_when_the_image_cannot_be_had(upgraded: PretendHost) -> None:
    shutil.move(upgraded.scratch / "tmp/image", upgraded.scratch / "tmp/away")
    damaged = file_object(upgraded, "usr/lib/version")
    damaged.write_text("3")
    status, found = fsck(upgraded, "--repair")
    assert status == 1
    assert found["objects"][0]["repaired"] is False
    assert "cannot be fetched again" in found["objects"][-1]["message"]
    assert damaged.read_text() == "3"
    shutil.move(upgraded.scratch / "tmp/away", upgraded.scratch / "tmp/image")
    assert fsck(upgraded, "--repair")[0] == 0


def test_another_image_under_the_reference_is_not_taken_for_it(upgraded: PretendHost) -> None:
    publish(upgraded, "3")
    damaged = file_object(upgraded, "usr/lib/version")
    damaged.write_text("3")
    status, found = fsck(upgraded, "--repair")
    assert status == 1
    assert "is another image now" in found["objects"][-1]["message"]
    assert damaged.exists()
    assert upgraded.status()["booted"]["image"]["version"] == "2"


def test_an_upgrade_goes_through_after_a_repair_and_fetches_the_other_image_only(
    upgraded: PretendHost,
) -> None:
    file_object(upgraded, "usr/lib/modules/1.0/vmlinuz").unlink()
    assert fsck(upgraded, "--repair")[0] == 0
    publish(upgraded, "3")
    assert "Queued for next boot" in upgraded.bootc("upgrade")
    upgraded.reboot()
    assert upgraded.status()["booted"]["image"]["version"] == "3"
    assert upgraded.status()["rollback"]["image"]["version"] == "2"


@pytest.mark.parametrize("damage", [Path.unlink, truncate, corrupt])
def test_kernels_in_boot_are_copied_from_their_deployments(
    upgraded: PretendHost, damage: Callable[[Path], None]
) -> None:
    before = entries(upgraded)
    kernels = sorted((upgraded.sysroot / "boot/ostree").glob("*/vmlinuz-*"))
    whole = [each.read_bytes() for each in kernels]
    assert len(set(whole)) == 2
    for each, content in zip(kernels, whole, strict=True):
        each.unlink()  # where /boot is a part of the root, it is a hard link
        each.write_bytes(content)
        damage(each)
    status, found = fsck(upgraded)
    assert status == 1
    assert "are not those of their deployment" in found["boot-entries"][-1]["message"]
    status, found = fsck(upgraded, "--repair")
    assert status == 0, found
    assert [each.read_bytes() for each in kernels] == whole
    assert fsck(upgraded) == (0, {})
    assert entries(upgraded) == before


def _menu(host: PretendHost) -> str:
    return (host.sysroot / "boot/loader/grub.cfg").read_text()


def _spoil_entry(host: PretendHost, index: int) -> str:
    """Lead a boot entry nowhere; the name of its file."""
    argument = next(
        word for word in host.entries()[index]["options"].split() if word.startswith("ostree=")
    )
    for name in entries(host):
        file = host.sysroot / "boot/loader/entries" / name
        if argument in file.read_text():
            file.write_text(file.read_text().replace("ostree=/ostree/boot.", "ostree=/ostree/no."))
            return name
    raise AssertionError(argument)


def test_an_entry_that_leads_nowhere_goes_with_what_is_left_of_its_deployment(
    upgraded: PretendHost,
) -> None:
    name = _spoil_entry(upgraded, 1)
    kept = {key: value for key, value in entries(upgraded).items() if key != name}
    status, found = fsck(upgraded)
    assert status == 1
    assert upgraded.execute(*BOOTC, "upgrade").status == 1, "libostree reads no deployment at all"
    status, found = fsck(upgraded, "--repair")
    assert status == 0, found
    assert name in found["sysroot"][0]["message"]
    assert entries(upgraded) == kept
    assert _menu(upgraded).count("menuentry ") == 1
    assert "is no deployment" in found["deployments"][0]["message"]
    assert fsck(upgraded) == (0, {})
    upgraded.reboot()
    assert upgraded.status()["booted"]["image"]["version"] == "2"


def test_the_last_entry_stays_whatever_it_says(upgraded: PretendHost) -> None:
    _spoil_entry(upgraded, 0)
    _spoil_entry(upgraded, 1)
    before = entries(upgraded)
    status, found = fsck(upgraded, "--repair")
    assert status == 1
    assert list(found) == ["sysroot"]
    assert entries(upgraded) == before
