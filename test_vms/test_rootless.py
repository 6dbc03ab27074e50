"""An ordinary user boots disks and images, restores snapshots and rehearses upgrades; root has no part in it."""

import pwd
import shutil
from collections.abc import Iterator

import pytest

from bootc_build.disk.cached import cached_disk
from bootc_build.disk.formats import copy_sparse
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Silent
from test_vms.example_os import FOLLOWS, Versions
from tests.ordinary_user import COMMAND, User, made_user

_TELL = ("cat", "/proc/sys/kernel/random/boot_id")
_PLAIN = """\
def test_a_machine(bootc_vm, bootc_image):
    assert bootc_vm(bootc_image).succeed("id -u") == "0\\n"
"""
_FILE = """\
def test_it_is_version_2_at_the_end(bootc_vm, bootc_next_image):
    assert "hello from version 2" in bootc_vm(bootc_next_image).succeed("hello")
"""


@pytest.fixture
def user() -> Iterator[User]:
    with made_user() as made:
        yield made
        # podman keeps the user's namespace in a process of its own; nothing of ours stays.
        assert made.programs() <= {"podman", "podman pause", "catatonit"}


def test_a_user_boots_a_disk(user: User, versions: Versions) -> None:
    made = cached_disk(versions.one, Silent(), target=ImageReference.parse_cli(FOLLOWS))
    disk = user.home / "disk.raw"
    copy_sparse(made, disk)
    shutil.chown(disk, user.name)
    command = ["run", "disk.raw", "--", "sh", "-c", "id -u; bootc status; exit 3"]
    said = user.run(str(COMMAND), *command, check=False)
    assert said.status == 3, said.stderr
    assert said.stdout.startswith("0\n")
    assert FOLLOWS in said.stdout


@pytest.mark.long
def test_a_user_boots_an_image_once_and_has_a_snapshot_of_it(
    user: User, versions: Versions
) -> None:
    user.take_image(versions.one)
    command = [str(COMMAND), "run", "--snapshot", versions.one, "--", *_TELL]
    boot = user.run(*command).stdout
    assert user.run(*command).stdout == boot
    kept = user.home / ".cache/bootc-build"
    own = pwd.getpwnam(user.name).pw_uid
    for kind in ("image-disks", "snapshots"):
        [folder] = [path for path in (kept / kind).iterdir() if path.is_dir()]
        assert {path.stat().st_uid for path in folder.rglob("*")} == {own}
    # Plain pytest is started in the namespace.
    (user.home / "test_plain.py").write_text(_PLAIN)
    plain = ["buildah", "unshare", "pytest", "--bootc-image", versions.one, "test_plain.py"]
    done = user.run(*plain, check=False)
    assert done.status == 0, done.stdout


@pytest.mark.long
def test_a_user_rehearses_an_upgrade(user: User, versions: Versions) -> None:
    for version in (versions.one, versions.two):
        user.take_image(version)
    (user.home / "test_own.py").write_text(_FILE)
    options = ["--upgrade-to", versions.two, "test_own.py", "--html", "report.html"]
    done = user.run(str(COMMAND), "test", versions.one, *options, check=False)
    assert done.status == 0, done.stdout + done.stderr
    assert "passed: 14 checks" in done.stdout
    report = user.home / "report.html"
    assert report.stat().st_uid == pwd.getpwnam(user.name).pw_uid
