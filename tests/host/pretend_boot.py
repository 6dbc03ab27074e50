"""Run ``bootc`` as on a booted host, without a machine: a deployment entered by mounts and chroot.

libostree takes the deployment whose directory is "/" for the booted one, so the real library, with its
staging, its merge of /etc and its boot entries, runs here. Which deployment is "booted" is read from
the boot entry that a boot loader would take. The machine's own /usr is mounted over the deployment's.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.host.invented_os import write_image

CHECKOUT = Path(__file__).parents[2]
MENU_GENERATOR = "bootc_build/data/image_root/usr/libexec/bootc/grub-menu"
BOOTC = ("/usr/bin/python3", "-m", "bootc_build.onhost")
_ENTER = """
set -eu
root=$1 sysroot=$2 run=$3 scratch=$4 checkout=$5 usr=$6; shift 6
mount --make-rprivate /
mount --bind "$root" "$scratch/root"
cd "$scratch/root"
mount --bind "$sysroot" sysroot
mount --bind "$sysroot/boot" boot
mount --rbind "$usr" usr
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount --bind "$run" run
mount --bind "$scratch/tmp" tmp
mount --bind "$sysroot/ostree/deploy/default/var" var
mount --bind -o ro "$checkout" tmp/checkout
exec chroot . "$@"
"""
# libostree asks systemd to start the unit that finalizes at shutdown; `PretendHost.reboot` does that.
_FAKE_SYSTEMCTL = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True)
class Finished:
    status: int
    stdout: str
    stderr: str


class PretendHost:
    """A host over a scratch sysroot.

    Args:
        sysroot: with at least one deployment.
        scratch: an empty directory of its own.
        usr: whose programs and libraries run, this machine's by default.
    """

    def __init__(self, sysroot: Path, scratch: Path, usr: Path = Path("/usr")) -> None:
        self._usr = usr
        self.sysroot = sysroot
        self.scratch = scratch
        for name in ("root", "run", "tmp/checkout", "tmp/fake"):
            (scratch / name).mkdir(parents=True)
        systemctl = scratch / "tmp/fake/systemctl"
        systemctl.write_text(_FAKE_SYSTEMCTL)
        systemctl.chmod(0o755)
        self._booted = self._boot()

    @property
    def root(self) -> Path:
        """The booted deployment's directory."""
        return self._booted

    @property
    def run_directory(self) -> Path:
        return self.scratch / "run"

    def entries(self) -> list[dict[str, str]]:
        """The boot entries, in the order of the menu."""
        files = (self.sysroot / "boot/loader/entries").glob("*.conf")
        entries = [
            dict(line.split(" ", 1) for line in file.read_text().splitlines() if " " in line)
            for file in files
        ]
        return sorted(entries, key=lambda entry: -int(entry["version"]))

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program inside."""
        paths = (self._booted, self.sysroot, self.run_directory, self.scratch, CHECKOUT, self._usr)
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
        return subprocess.Popen(
            [*enter, *map(str, paths), *argv],
            env={
                "PATH": "/tmp/fake:/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": "/tmp/checkout",
                "PYTHONDONTWRITEBYTECODE": "1",
                # A complaint of GLib's on stderr is a defect of the caller's.
                "G_DEBUG": "fatal-criticals",
                "OSTREE_SYSROOT_DEBUG": "mutable-deployments",
                "OSTREE_SYSROOT_OPTS": "skip-sync",
                "OSTREE_GRUB2_EXEC": f"/tmp/checkout/{MENU_GENERATOR}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def execute(self, *argv: str) -> Finished:
        """Run a program inside."""
        with self.start(*argv) as process:
            stdout, stderr = process.communicate(timeout=120)
        return Finished(process.returncode, stdout, stderr)

    def bootc(self, *arguments: str) -> str:
        """Run ``bootc`` inside, successfully; its standard output."""
        done = self.execute(*BOOTC, *arguments)
        assert done.status == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The ``status`` part of the status document."""
        document: dict[str, Any] = json.loads(self.bootc("status", "--format=json"))
        status: dict[str, Any] = document["status"]
        return status

    def reboot(self, entry: int = 0) -> None:
        """What a shutdown does to a queued deployment, then boot what the menu has first, or another entry."""
        if (self.run_directory / "ostree/staged-deployment").exists():
            done = self.execute("ostree", "admin", "finalize-staged")
            assert done.status == 0, done.stderr
        subprocess.run(["rm", "-rf", self.run_directory], check=True)
        self._booted = self._boot(entry)

    def _boot(self, entry: int = 0) -> Path:
        self.run_directory.mkdir(exist_ok=True)
        (self.run_directory / "ostree-booted").touch()
        found = re.search(r"(?:^| )ostree=/(\S+)", self.entries()[entry]["options"])
        assert found is not None
        return Path(os.path.realpath(self.sysroot / found[1]))


def publish(host: PretendHost, version: str, kargs: str = "") -> str:
    """Put another version where the host looks for updates; its manifest digest."""
    return write_image(host.scratch / "tmp/image", host.scratch, version=version, kargs=kargs)
