"""What tests of several rooms share."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No test is about how long it takes, and machines are slow at times.
settings.register_profile("bootc-build", deadline=None)
settings.load_profile("bootc-build")

# A background job of a shell ignores Ctrl-C, and so would every program that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KERNEL = "6.12.0-1-amd64"
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "ostree": "sysroot/ostree",
    "home": "var/home",
    "root": "var/roothome",
    "opt": "usr/lib/opt",
    "media": "run/media",
    "var/run": "../run",
}
DIRECTORIES = (
    *("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "usr/bin", "usr/sbin"),
    *("var/home", "var/roothome", "var/log/app", "var/tmp"),
)
FILES = {
    "usr/bin/bootc": "#!/usr/bin/python3\n",
    f"usr/lib/modules/{KERNEL}/vmlinuz": "kernel",
    f"usr/lib/modules/{KERNEL}/initramfs.img": "initramfs",
    "usr/lib/x86_64-linux-gnu/libostree-1.so.1": "without composefs",
    "usr/lib/bootc/kargs.d/10-a.toml": 'kargs = ["quiet"]\n',
    "etc/machine-id": "",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n_app:x:900:900::/:/bin/false\n",
    "etc/group": "root:x:0:\n_app:x:900:\nstaff:x:50:\n",
    "usr/lib/sysusers.d/a.conf": '# comment\nu root 0 "root" /root\nu! _app 900\n',
    "usr/lib/sysusers.d/b.conf": "g staff 50\n",
    "usr/lib/tmpfiles.d/a.conf": "d /var/home 0755\nd /var/roothome 0700\nd /var/log/app -\n",
}


@pytest.fixture(scope="session")
def plant_tree() -> Callable[[Path], Path]:
    """Makes a small root tree that every lint is content with in a folder; returns the folder."""
    return _plant


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root tree that every lint is content with."""
    return _plant(tmp_path / "root")


def _plant(root: Path) -> Path:
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root
