"""Upgrade, reboot, rollback through the real libostree, skopeo and command line; only the boot is pretended."""

import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost, publish


def booted_first(host: PretendHost) -> list[str]:
    """The kernel command lines of GRUB's menu, from the top, without what the menu adds of its own."""
    menu = (host.sysroot / "boot/loader/grub.cfg").read_text()
    lines = re.findall(r"^\tlinux \S+ (.*)$", menu, re.MULTILINE)
    return [re.sub(r" \$bootc_\w+$", "", line) for line in lines]


def test_upgrade_is_queued_then_booted_then_rolled_back(host: PretendHost) -> None:
    digest = publish(host, "2", 'kargs = ["new=2", "both=1"]\n')
    (host.root / "etc/colour").write_text("local\n")
    output = host.bootc("upgrade")
    assert f"Queued for next boot: oci:/tmp/image:image\n  Version: 2\n  Digest: {digest}" in output
    status = host.status()
    assert status["staged"]["image"]["imageDigest"] == digest
    assert status["booted"]["image"]["version"] == "1"
    assert status["rollback"] is None
    assert digest in (host.run_directory / "reboot-required").read_text()
    assert (host.sysroot / "ostree/bootc").is_dir()

    host.reboot()
    status = host.status()
    assert status["staged"] is None
    assert status["booted"]["image"]["version"] == "2"
    assert status["rollback"]["image"]["version"] == "1"
    assert (host.root / "usr/lib/version").read_text() == "2"
    assert (host.root / "etc/colour").read_text() == "local\n"
    assert host.entries()[0]["options"].split()[:5] == [
        "root=UUID=r", "rw", "both=1", "mine=1", "new=2",
    ]  # fmt: skip

    assert booted_first(host) == [entry["options"] for entry in host.entries()]

    assert host.bootc("rollback") == "Next boot: rollback deployment\n"
    assert host.status()["rollbackQueued"] is True
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "1"
    assert (host.root / "usr/lib/version").read_text() == "1"


def test_same_image_is_no_update_and_staged_is_not_staged_twice(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    assert "Staged update present, not changed" in host.bootc("upgrade")
    host.reboot()
    assert "No update available." in host.bootc("update")
    assert host.status()["staged"] is None


def test_what_a_killed_command_left_of_its_transaction_goes(host: PretendHost) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    left = host.sysroot / f"ostree/repo/tmp/staging-{boot_id}-AbCdEf"

    def leave() -> None:
        (left / "ab").mkdir(parents=True)
        (left / "ab/half.file").write_text("half")

    publish(host, "2")
    host.bootc("upgrade")
    leave()
    assert "Staged update present" in host.bootc("upgrade")
    assert not left.exists()
    host.reboot()
    leave()
    assert "No update available." in host.bootc("upgrade")
    assert not left.exists()
    leave()
    fetched = host.sysroot / "ostree/deploy/default/var/tmp/bootc-fetch-deadbeef"
    fetched.mkdir(parents=True)
    (fetched / "lock").touch()
    (fetched / "blob").write_text("half of a layer")
    host.bootc("internals", "cleanup")
    assert not left.exists()
    assert not fetched.exists()


def test_check_tells_without_fetching_and_status_remembers(host: PretendHost) -> None:
    digest = publish(host, "2")
    output = host.bootc("upgrade", "--check")
    assert f"Update available for: oci:/tmp/image:image\n  Version: 2\n  Digest: {digest}" in output
    status = host.status()
    assert status["staged"] is None
    assert status["booted"]["cachedUpdate"]["imageDigest"] == digest
    assert f"UpdateDigest: {digest}" in host.bootc("status", "--format=humanreadable")
    host.bootc("upgrade")
    host.reboot()
    assert "No changes in: oci:/tmp/image:image" in host.bootc("upgrade", "--check")


def test_switch_tracks_another_image(host: PretendHost) -> None:
    write_image(host.scratch / "tmp/other", host.scratch, version="9")
    host.bootc("switch", "--transport=oci", "/tmp/other:image")
    again = host.bootc("switch", "--transport=oci", "/tmp/other:image")
    assert again == "Image specification is unchanged.\n"
    host.reboot()
    booted = host.status()["booted"]["image"]
    assert booted["image"] == {"image": "/tmp/other:image", "transport": "oci"}
    assert booted["version"] == "9"


def test_rollback_twice_cancels_and_drops_what_is_staged(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    publish(host, "3")
    host.bootc("upgrade")
    host.bootc("rollback")
    status = host.status()
    assert status["staged"] is None
    assert status["rollbackQueued"] is True
    required = host.run_directory / "reboot-required"
    assert required.exists()
    assert host.bootc("rollback") == (
        "notice: Reverting queued rollback state\nNext boot: current deployment\n"
    )
    assert not required.exists(), "what runs is what boots next"
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"


def test_only_what_deployments_need_is_left_after_many_upgrades(host: PretendHost) -> None:
    for version in ("2", "3", "4", "5"):
        publish(host, version)
        host.bootc("upgrade")
        host.reboot()
    status = host.status()
    assert status["booted"]["image"]["version"] == "5"
    assert status["rollback"]["image"]["version"] == "4"
    refs = host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--list").stdout.split()
    # When 5 was queued, 4 was booted and 3 its rollback.
    assert len([ref for ref in refs if ref.startswith("ostree/container/blob/")]) == 3
    kernels = list((host.sysroot / "boot/ostree").iterdir())
    assert len(kernels) == 2
    # The next look at the registry finds nothing new, and what 3 alone needed goes.
    assert "No update available." in host.bootc("upgrade")
    refs = host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--list").stdout.split()
    assert len([ref for ref in refs if ref.startswith("ostree/container/blob/")]) == 2


def test_locally_changed_tree_is_not_upgraded(host: PretendHost) -> None:
    publish(host, "2")
    origin = host.root.with_name(f"{host.root.name}.origin")
    origin.write_text(origin.read_text() + "\n[packages]\nrequested=vim;\n")
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert "rpm-ostree reset" in done.stderr
    status = host.status()
    assert status["booted"]["incompatible"] is True
    assert status["booted"]["image"] is None


def test_nothing_to_roll_back_to_is_said(host: PretendHost) -> None:
    done = host.execute(*BOOTC, "rollback")
    assert done.status == 1
    assert done.stderr.startswith("error: No rollback available.")


def test_second_writer_says_whom_it_waits_for_then_goes_on(host: PretendHost) -> None:
    publish(host, "2")
    with (host.sysroot / "ostree/lock").open("w") as lock:
        # An open-file-description lock on the whole file, as libostree takes.
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, whole)
        with host.start(*BOOTC, "upgrade") as waiting:
            assert waiting.stderr is not None
            said = waiting.stderr.readline()
            # It is this process that has the lock, whose number is another one inside.
            assert "is changing the system; waiting for its lock..." in said
            # Somebody who only looks need not wait.
            assert host.status()["staged"] is None
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
            waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert host.status()["staged"]["image"]["version"] == "2"


def test_downloaded_only_is_not_booted_until_released(host: PretendHost) -> None:
    publish(host, "2")
    done = host.execute(*BOOTC, "upgrade", "--download-only")
    if "libostree cannot hold" in done.stderr:
        pytest.skip("this machine's libostree cannot hold a deployment back")
    assert done.status == 0, done.stderr
    required = host.run_directory / "reboot-required"
    changed = host.sysroot / "ostree/bootc"
    assert host.status()["staged"]["downloadOnly"] is True
    assert not required.exists(), "no reboot uses it"
    done = host.execute(*BOOTC, "kargs", "--append=later=1")
    assert 'Run "bootc upgrade --from-downloaded" to have the next reboot' in done.stderr
    assert host.status()["staged"]["downloadOnly"] is True
    os.utime(changed, (0, 0))
    assert host.bootc("upgrade", "--from-downloaded") == (
        "Staged deployment will now be applied on reboot\n"
    )
    assert host.status()["staged"]["downloadOnly"] is False
    assert required.exists()
    assert changed.stat().st_mtime > 0
    assert "will not be applied" in host.bootc("upgrade", "--download-only")
    assert not required.exists()
    host.bootc("upgrade")
    assert required.exists()
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"


def test_nothing_is_fetched_where_no_deployment_can_be_held_back(host: PretendHost) -> None:
    """A libostree of before 2023.8; on a newer one its function is hidden."""
    publish(host, "2")
    hide = "import gi\ngi.require_version('OSTree', '1.0')\nfrom gi.repository import OSTree\n"
    hide += "OSTree.Sysroot.change_finalization = None\n"
    run = "import sys\nfrom bootc_build.onhost.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    done = host.execute("/usr/bin/python3", "-c", hide + run, "upgrade", "--download-only")
    assert done.status == 1
    assert "libostree cannot hold a staged deployment back" in done.stderr
    assert "Fetching" not in done.stderr
    refs = host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--list").stdout
    assert "ostree/container/blob/" not in refs


def test_check_tells_who_watches_the_status_only_of_what_is_new(host: PretendHost) -> None:
    changed = host.sysroot / "ostree/bootc"
    publish(host, "2")
    host.bootc("upgrade", "--check")
    assert changed.is_dir()
    os.utime(changed, (0, 0))
    host.bootc("upgrade", "--check")
    assert changed.stat().st_mtime == 0, "it was known"
    publish(host, "3")
    host.bootc("upgrade", "--check")
    assert changed.stat().st_mtime > 0


def test_upgrade_whose_output_nobody_reads_is_applied(host: PretendHost) -> None:
    publish(host, "2")
    reboot = host.scratch / "tmp/fake/systemd-run"
    reboot.write_text("#!/bin/sh\ntouch /run/reboots\n")
    reboot.chmod(0o755)
    command = " ".join((*BOOTC, "upgrade", "--apply"))
    # The reader is gone before the first line.
    done = host.execute("bash", "-c", f"{command} > >(exec true) 2>&1; exit $?")
    assert done.status == 0
    assert host.status()["staged"]["image"]["version"] == "2"
    assert (host.run_directory / "reboots").exists()


def test_killed_upgrade_changes_nothing_and_the_next_one_finishes(host: PretendHost) -> None:
    publish(host, "2")
    with host.start(*BOOTC, "upgrade") as process:
        assert process.stderr is not None
        assert "Fetching" in process.stderr.readline()
        process.kill()
    assert host.status()["staged"] is None
    host.bootc("upgrade")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"


def test_plain_ostree_host_switches_to_an_image_and_back(host: PretendHost) -> None:
    repo = "--repo=/sysroot/ostree/repo"
    commit = host.status()["booted"]["ostree"]["checksum"]
    assert host.execute("ostree", "refs", repo, commit, "--create=some/branch").status == 0
    origin = host.root.with_name(f"{host.root.name}.origin")
    origin.write_text("[origin]\nrefspec=some/branch\n")
    assert "Booted ostree" in host.bootc("status", "--format=humanreadable")
    assert host.execute(*BOOTC, "upgrade").stderr.startswith("error: No image source specified.")

    publish(host, "2")
    host.bootc("switch", "--transport=oci", "/tmp/image:image")
    assert "some/branch" not in host.execute("ostree", "refs", repo).stdout
    host.reboot()
    status = host.status()
    assert status["booted"]["image"]["version"] == "2"
    assert status["rollback"]["image"] is None
    host.bootc("rollback")
    host.reboot()
    assert host.status()["booted"]["ostree"]["checksum"] == commit


def test_status_survives_missing_refs_and_damaged_metadata(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    listed = host.execute(
        "ostree", "refs", "--repo=/sysroot/ostree/repo", "--list", "ostree/container"
    )
    for ref in listed.stdout.split():
        host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--delete", ref)
    origin = host.root.with_name(f"{host.root.name}.origin")
    rollback = host.status()["rollback"]["ostree"]
    broken = origin.with_name(f"{rollback['checksum']}.{rollback['deploySerial']}.origin")
    broken.write_text("[origin]\ncontainer-image-reference=nonsense\n")
    status = host.status()
    assert status["booted"]["image"]["version"] == "2"
    assert status["rollback"]["image"] is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    """The host's disk has 140 MB."""
    place = tmp_path / "sysroot"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=140m", "small", place], check=True)
    yield
    subprocess.run(["umount", "--lazy", place], check=True)


def publish_large(host: PretendHost, version: str, size: int) -> None:
    def spoil(tree: Path) -> None:
        (tree / "usr/lib/large").write_bytes(os.urandom(size))

    write_image(host.scratch / "tmp/image", host.scratch, version=version, spoil=spoil)


@pytest.mark.usefixtures("small_disk")
def test_leftovers_make_room_for_an_update_that_would_not_fit(
    request: pytest.FixtureRequest,
) -> None:
    host: PretendHost = request.getfixturevalue("host")  # upon the disk
    for version in ("2", "3", "4", "5"):
        publish_large(host, version, 28_000_000)
        done = host.execute(*BOOTC, "upgrade")
        assert done.status == 0, done.stderr
        assert ("to make room" in done.stderr) == (version == "5")
        host.reboot()
        assert host.status()["booted"]["image"]["version"] == version
    assert host.status()["rollback"]["image"]["version"] == "4"
    # What is needed is not given up: for this one there is no room.
    publish_large(host, "6", 60_000_000)
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 1
    assert "Make room" in done.stderr
    host.bootc("rollback")
    host.reboot()
    assert (host.root / "usr/lib/version").read_text() == "4"


def test_missing_refs_and_a_missing_commit_hinder_neither_looking_nor_going_back(
    host: PretendHost,
) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    refs = host.execute("ostree", "refs", "--repo=/sysroot/ostree/repo", "--list").stdout.split()
    for ref in refs:
        if ref.startswith("ostree/container/"):
            (host.sysroot / "ostree/repo/refs/heads" / ref).unlink()
    before = host.status()
    assert before["booted"]["image"]["version"] == "2"
    assert before["rollback"]["image"]["version"] == "1"
    gone = before["rollback"]["ostree"]["checksum"]
    (host.sysroot / f"ostree/repo/objects/{gone[:2]}/{gone[2:]}.commit").unlink()
    status = host.status()
    assert status["booted"] == before["booted"]
    assert status["rollback"]["image"] is None
    assert status["rollback"]["ostree"] == before["rollback"]["ostree"]
    assert "No update available." in host.bootc("upgrade")
    assert host.bootc("rollback") == "Next boot: rollback deployment\n"
    host.reboot()
    assert (host.root / "usr/lib/version").read_text() == "1"
    # From there the way on is open, too.
    publish(host, "3")
    host.bootc("upgrade")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "3"
