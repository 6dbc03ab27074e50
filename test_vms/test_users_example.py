"""The example of an operating system with tests, typed as its README says, from an installed wheel."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_vms.os_images import PROJECT

_NEEDED = ("bootc_build", "examples", "pyproject.toml", "README.md", "LICENSE")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _commands(readme: str) -> list[str]:
    lines = [line for block in _BLOCK.findall(readme) for line in block.splitlines()]
    assert all(line.startswith("# ") for line in lines)
    return [line.removeprefix("# ") for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the wheel is made of, and the example."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _NEEDED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A user's: not this checkout's Python; container storage and cache of its own, which go afterwards."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))
    }
    folder = Path("/var/tmp", f"bootc-build-example-{os.getpid()}")
    folder.mkdir()
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    try:
        yield {
            **kept,
            "PATH": _PATH,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
    finally:
        subprocess.run(["umount", "--quiet", folder / "graph/overlay"], check=False)
        shutil.rmtree(folder)


@pytest.mark.long
def test_the_example_does_what_its_readme_says(checkout: Path, environment: dict[str, str]) -> None:
    folder = checkout / "examples/my_os"
    assert len((folder / "test_my_os.py").read_text().splitlines()) <= 30
    commands = _commands((folder / "README.md").read_text())
    assert any(command.startswith("bootc-build test ") for command in commands)
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(commands)],
        cwd=folder,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)  # noqa: T201 - what to read when it fails
    assert done.returncode == 0
    assert "2 passed" in done.stdout
    assert "my-os:1 passed: 15 checks" in done.stdout
    assert "2 of the checks are your own" in done.stdout
    # The last command's output: what runs from a snapshot was booted once.
    assert done.stdout.splitlines()[-1] == "1"
    page = (folder / "report.html").read_text()
    assert "15 passed" in page
    assert 'id="machine-0"' in page
