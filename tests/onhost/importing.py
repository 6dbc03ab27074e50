"""What the tests that import images share."""

import os
import subprocess
import sys
from pathlib import Path

from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import PulledImage, pull
from tests.onhost.oci_images import Entry, WrittenImage, write_image


class Counted(Silent):
    """Remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    @property
    def fetched(self) -> int:
        return sum(step.startswith("Fetching layer") for step in self.steps)


def reference(image: WrittenImage) -> ImageReference:
    return ImageReference.parse_transport_qualified(image.skopeo)


def pulled(repo: Repo, image: WrittenImage, progress: Silent | None = None) -> PulledImage:
    return pull(repo, reference(image), progress=progress or Silent())


def listing(repo: Repo, commit: str) -> dict[str, str]:
    """Path to "mode uid gid size [-> target]", as ostree itself says."""
    text = subprocess.run(
        ["ostree", f"--repo={repo.path}", "ls", "-R", commit],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout
    result = {}
    for line in text.splitlines():
        mode, uid, gid, size, path = line.split(maxsplit=4)
        name, arrow, target = path.partition(" -> ")
        result[name] = f"{mode} {uid} {gid} {size}" + arrow + target
    return result


def content(repo: Repo, commit: str, path: str) -> bytes:
    command = ["ostree", f"--repo={repo.path}", "cat", commit, path]
    return subprocess.run(command, check=True, capture_output=True).stdout


def imported(repo: Repo, tmp_path: Path, *layers: list[Entry]) -> dict[str, str]:
    """The listing of an image with these layers."""
    image = write_image(tmp_path / "layout", layers)
    return listing(repo, pulled(repo, image).merge_commit)


PULL_IN_ANOTHER_PROCESS = r"""
import importlib, os, re, signal, sys
from pathlib import Path
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import open_repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull

if sys.argv[3:]:
    module, name, count = sys.argv[3].split(":")
    owner = importlib.import_module(f"bootc_build.onhost.ostree.{module}")
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real, calls = getattr(owner, last), []
    def die(*args, **kwargs):
        calls.append(args)
        if len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(owner, last, die)
pull(open_repo(Path(sys.argv[1])), ImageReference.parse_transport_qualified(sys.argv[2]), progress=Silent())
# Not ru_maxrss: that starts with what the parent had.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def pull_elsewhere(
    repo: Repo, image: WrittenImage, *extra: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PULL_IN_ANOTHER_PROCESS, str(repo.path), image.skopeo, *extra]
    return subprocess.run(command, check=False, capture_output=True, text=True)
