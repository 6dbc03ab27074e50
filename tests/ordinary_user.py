"""A user of this machine without any rights, made for tests and removed after them."""

import os
import pwd
import secrets
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.process import Completed, run
from bootc_build.tools.buildah import image_id
from bootc_build.tools.skopeo import export_uncompressed

_STORAGE = '[storage]\ndriver = "overlay"\n'
_IDS = "1300000-1365535"
COMMAND = Path(sys.executable).with_name("bootc-build")


@dataclass(frozen=True)
class User:
    """Who that is."""

    name: str
    home: Path

    def command(self, *argv: str) -> list[str]:
        become = ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups"]
        path = f"{COMMAND.parent}:/usr/bin:/bin"
        clean = ["env", "-i", f"HOME={self.home}", f"PATH={path}", f"TMPDIR={self.home}"]
        return [*become, *clean, *argv]

    def run(self, *argv: str, check: bool = True) -> Completed:
        return run(self.command(*argv), cwd=self.home, check=check)

    def take_image(self, name: str) -> None:
        """Copy an image of root's storage to the user's own, with its name and its digest."""
        layout = self.home / "layout"
        export_uncompressed(image_id(name), layout, "image")
        run(["chown", "-R", f"{self.name}:", str(layout)])
        self.run("skopeo", "copy", "--quiet", f"oci:{layout}:image", f"containers-storage:{name}")
        shutil.rmtree(layout)

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

    def programs(self) -> set[str]:
        """The names of what runs as this user."""
        names = set()
        for process in self.processes():
            with suppress(OSError):
                names.add(Path(f"/proc/{process}/comm").read_text().strip())
        return names

    def end_processes(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process)
                os.kill(process, signal.SIGKILL)
                select.select([handle], [], [], 10)
                os.close(handle)


@contextmanager
def made_user() -> Iterator[User]:
    """A new user with subordinate ids, for the length of the block; a skip where none can be had."""
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
        if made.run(str(COMMAND), "--version", check=False).status != 0:
            pytest.skip(f"{COMMAND} is in a folder that other users may not enter")
        yield made
        made.end_processes()
    finally:
        run(["userdel", name])
        shutil.rmtree(home)
