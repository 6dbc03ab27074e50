"""An ordinary user, made for the test and removed after it, makes the same bytes as root."""

import hashlib
import json
import pwd
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.process import run
from bootc_build.tools.buildah import remove_image
from tests.disk.stand_in_image import make_stand_in_image
from tests.ordinary_user import COMMAND, User, made_user


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with made_user() as made:
        yield made


@pytest.fixture(scope="module")
def image(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tag = f"localhost/bootc-build-test/rootless-{secrets.token_hex(4)}:1"
    make_stand_in_image(tag, tmp_path_factory.mktemp("image"), agent=True)
    user.take_image(tag)
    yield tag
    remove_image(tag)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_user_makes_the_disks_that_root_makes(user: User, image: str, tmp_path: Path) -> None:
    options = ["--type", "raw,qcow2", "--size", "3G", "--target-imgref", "registry.example/os:1"]
    command = [str(COMMAND), "disk", image, *options, "--output"]
    run([*command, str(tmp_path)])
    user.run(*command, str(user.home / "out"))
    for name in ("disk.raw", "disk.qcow2"):
        made = user.home / "out" / name
        assert made.stat().st_uid == pwd.getpwnam(user.name).pw_uid
        assert sha256(made) == sha256(tmp_path / name)
    # Its layer is kept, too, and the next disk of it is the same.
    assert list(user.home.glob(".cache/bootc-build/layers/*/objects/??/*.commit"))
    user.run(*command, str(user.home / "again"))
    assert sha256(user.home / "again/disk.raw") == sha256(tmp_path / "disk.raw")
    assert user.run("buildah", "containers", "--json").stdout.strip() in ("null", "[]")
    # podman may leave a process of its own that keeps the user's namespace; nothing of ours stays.
    assert user.programs() <= {"podman", "podman pause", "catatonit"}


def test_a_user_builds_an_image_and_looks_into_it(user: User, image: str) -> None:
    context = user.home / "context"
    context.mkdir()
    (context / "Containerfile").write_text(f"FROM {image}\nRUN echo 999 > /usr/share/made\n")
    (context / "Containerfile").chmod(0o644)
    context.chmod(0o755)
    user.run("buildah", "build", "--isolation", "chroot", "-q", "-t", "localhost/mine:1", "context")
    said = user.run(str(COMMAND), "inspect", "--format", "json", "localhost/mine:1").stdout
    found = json.loads(said)
    assert found["contents"]["kernels"] == ["6.12.0-test"]
    assert len(found["layers"]) == 2
    linted = user.run(str(COMMAND), "lint", "localhost/mine:1", check=False)
    assert linted.status == 1
    assert "Failed lint: api-base-directories" in linted.stdout


def test_a_user_who_ends_it_finds_nothing_left(user: User, image: str) -> None:
    out = user.home / "ended"
    options = ["-v", "--karg", "stand-in=hang", "--size", "3G", "--output", str(out)]
    command = user.command(str(COMMAND), "disk", image, *options)
    with subprocess.Popen(command, cwd=user.home, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("now hanging" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(120) == 128 + signal.SIGTERM
    assert list(out.iterdir()) == []
    assert user.run("buildah", "containers", "--json").stdout.strip() in ("null", "[]")
    assert user.programs() <= {"podman", "podman pause", "catatonit"}


def test_what_a_user_may_not_read_is_named(user: User, tmp_path: Path) -> None:
    for verb, name in (("run", "disk.raw"), ("run", "disk"), ("test", "test_own.py")):
        file = tmp_path / name
        file.touch()
        targets = [str(file)] if verb == "run" else ["os:v1", str(file)]
        done = user.run(str(COMMAND), verb, *targets, check=False)
        assert f"'{file}' cannot be read: Permission denied" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_user_without_subordinate_ids_is_told_how_to_get_them(user: User, image: str) -> None:
    user.end_processes()  # usermod refuses while there are any
    ranges = [word for each in user.ranges() for word in ("--del-subuids", each)]
    run(["usermod", *ranges, user.name])
    try:
        ways = [
            user.run(str(COMMAND), verb, image, check=False) for verb in ("disk", "run", "test")
        ]
    finally:
        user.end_processes()
        run(["usermod", *(word.replace("del", "add") for word in ranges), user.name])
    assert [done.status for done in ways] == [1, 125, 1]
    for done in ways:
        assert f"{user.name} has 0 subordinate uids in /etc/subuid" in done.stderr
        assert f"usermod --add-subuids 100000-165535 {user.name}" in done.stderr
        assert "Traceback" not in done.stderr
