"""A repository of the system's own libostree for the tests that import."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.ostree.repo import Repo, create_repo


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    """A fresh repository; whatever the test did, it has to be sound afterwards."""
    made = create_repo(tmp_path / "repo")
    yield made
    subprocess.run(
        ["ostree", "fsck", "--quiet", f"--repo={made.path}"], check=True, capture_output=True
    )
