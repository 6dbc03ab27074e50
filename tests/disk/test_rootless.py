"""An ordinary user, made for the test and removed after it, makes the same bytes as root."""

import hashlib
import json
import os
import pwd
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.process import Completed, run
from bootc_build.tools.buildah import remove_image
from bootc_build.tools.skopeo import export_uncompressed
from tests.disk.stand_in_image import make_stand_in_image

_STORAGE = '[storage]\ndriver = "overlay"\n'
_IDS = "1300000-1365535"
_COMMAND = Path(sys.executable).with_name("bootc-build")


@dataclass(frozen=True)
class User:
    """A user of this machine without any rights."""

    name: str
    home: Path

    def command(self, *argv: str) -> list[str]:
        become = ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups"]
        path = f"{_COMMAND.parent}:/usr/bin:/bin"
        clean = ["env", "-i", f"HOME={self.home}", f"PATH={path}", f"TMPDIR={self.home}"]
        return [*become, *clean, *argv]

    def run(self, *argv: str, check: bool = True) -> Completed:
        return run(self.command(*argv), cwd=self.home, check=check)

    def ranges(self) -> list[str]:
        rows = (line.split(":") for line in Path("/etc/subuid").read_text().splitlines())
        owned = [(int(row[1]), int(row[2])) for row in rows if row[0] == self.name]
        return [f"{first}-{first + count - 1}" for first, count in owned]

    def processes(self) -> list[int]:
        number = pwd.getpwnam(self.name).pw_uid
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # What has ended already waits for init only.
                ended = ") Z " in (folder / "stat").read_text()
                if folder.stat().st_uid == number and not ended:
                    found.append(int(folder.name))
        return found

    def end_processes(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process)
                os.kill(process, signal.SIGKILL)
                select.select([handle], [], [], 10)
                os.close(handle)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a user")
    name = f"bootc-build-{secrets.token_hex(3)}"
    # Not below pytest's own folder: that one is closed to others.
    home = Path(tempfile.mkdtemp(prefix="bootc-build-home-", dir="/var/tmp"))
    run(["useradd", "--no-log-init", "--home-dir", str(home), "--shell", "/bin/sh", name])
    try:
        settings = home / ".config/containers/storage.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text(_STORAGE)
        run(["chown", "-R", f"{name}:", str(home)])
        made = User(name, home)
        if not made.ranges():  # useradd gives some by itself, where login.defs has it so
            run(["usermod", "--add-subuids", _IDS, "--add-subgids", _IDS, name])
        if made.run(str(_COMMAND), "--version", check=False).status != 0:
            pytest.skip(f"{_COMMAND} is in a folder that other users may not enter")
        yield made
        made.end_processes()
    finally:
        run(["userdel", name])
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def image(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tag = f"localhost/bootc-build-test/rootless-{secrets.token_hex(4)}:1"
    make_stand_in_image(tag, tmp_path_factory.mktemp("image"), agent=True)
    identifier = run(["buildah", "images", "--quiet", "--no-trunc", tag]).stdout.strip()
    layout = user.home / "layout"
    export_uncompressed(identifier.removeprefix("sha256:"), layout, "image")
    run(["chown", "-R", f"{user.name}:", str(layout)])
    user.run("skopeo", "copy", "--quiet", f"oci:{layout}:image", f"containers-storage:{tag}")
    yield tag
    remove_image(tag)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_user_makes_the_disks_that_root_makes(user: User, image: str, tmp_path: Path) -> None:
    options = ["--type", "raw,qcow2", "--size", "3G", "--target-imgref", "registry.example/os:1"]
    command = [str(_COMMAND), "disk", image, *options, "--output"]
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
    names = {Path(f"/proc/{number}/comm").read_text().strip() for number in user.processes()}
    assert names <= {"podman", "podman pause", "catatonit"}


def test_a_user_builds_an_image_and_looks_into_it(user: User, image: str) -> None:
    context = user.home / "context"
    context.mkdir()
    (context / "Containerfile").write_text(f"FROM {image}\nRUN echo 999 > /usr/share/made\n")
    (context / "Containerfile").chmod(0o644)
    context.chmod(0o755)
    user.run("buildah", "build", "--isolation", "chroot", "-q", "-t", "localhost/mine:1", "context")
    said = user.run(str(_COMMAND), "inspect", "--format", "json", "localhost/mine:1").stdout
    found = json.loads(said)
    assert found["contents"]["kernels"] == ["6.12.0-test"]
    assert len(found["layers"]) == 2
    linted = user.run(str(_COMMAND), "lint", "localhost/mine:1", check=False)
    assert linted.status == 1
    assert "Failed lint: api-base-directories" in linted.stdout


def test_a_user_who_ends_it_finds_nothing_left(user: User, image: str) -> None:
    out = user.home / "ended"
    options = ["-v", "--karg", "stand-in=hang", "--size", "3G", "--output", str(out)]
    command = user.command(str(_COMMAND), "disk", image, *options)
    with subprocess.Popen(command, cwd=user.home, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("now hanging" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(120) == 128 + signal.SIGTERM
    assert list(out.iterdir()) == []
    assert user.run("buildah", "containers", "--json").stdout.strip() in ("null", "[]")
    names = {Path(f"/proc/{number}/comm").read_text().strip() for number in user.processes()}
    assert names <= {"podman", "podman pause", "catatonit"}


def test_a_user_without_subordinate_ids_is_told_how_to_get_them(user: User, image: str) -> None:
    user.end_processes()  # usermod refuses while there are any
    ranges = [word for each in user.ranges() for word in ("--del-subuids", each)]
    run(["usermod", *ranges, user.name])
    try:
        done = user.run(str(_COMMAND), "disk", image, check=False)
    finally:
        user.end_processes()
        run(["usermod", *(word.replace("del", "add") for word in ranges), user.name])
    assert done.status == 1
    assert f"{user.name} has 0 subordinate uids in /etc/subuid" in done.stderr
    assert f"usermod --add-subuids 100000-165535 {user.name}" in done.stderr
    assert "Traceback" not in done.stderr
