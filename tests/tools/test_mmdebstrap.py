"""mmdebstrap's failures in words, what it is given, and that nothing of it outlives a stop.

A stand-in for the program is first on PATH; ``unshare`` around it is the real one.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError
from bootc_build.tools import mmdebstrap
from bootc_build.tools.mmdebstrap import MirrorError, build_tree


class Stage:
    """A stand-in mmdebstrap, the folders it is called with, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "target"
        self.cache = folder / "cache"
        self.told = folder / "told"
        self.phases: list[str] = []
        (folder / "bin").mkdir()
        self.target.mkdir()
        self.cache.mkdir()

    def program(self, body: str) -> None:
        program = self.folder / "bin/mmdebstrap"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.told}\n{body}\n')
        program.chmod(0o755)

    def build(self) -> None:
        build_tree(
            self.target,
            architecture="amd64",
            suite="trixie",
            sources=["deb http://mirror.test/debian trixie main"],
            packages=["systemd", "dracut"],
            keyring=Path("/k.gpg"),
            seed=lambda tree: (tree / "seeded").touch(),
            cache=self.cache,
            options=["force-unsafe-io"],
            apt_options=['Acquire::Retries "3";'],
            epoch=7,
            on_phase=self.phases.append,
            on_line=lambda _line: None,
        )


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return made


def test_it_is_told_what_to_build(stage: Stage) -> None:
    stage.program('test "$SOURCE_DATE_EPOCH" = 7')
    stage.build()
    told = stage.told.read_text().splitlines()
    assert "--include=systemd,dracut" in told
    assert "--dpkgopt=force-unsafe-io" in told
    assert '--aptopt=Acquire::Retries "3";' in told
    assert told[-3:] == ["trixie", str(stage.target), "deb http://mirror.test/debian trixie main"]


def test_phases_are_told_in_words(stage: Stage) -> None:
    stage.program('echo "I: running apt-get update..."; echo "I: extracting archives..."')
    stage.build()
    assert stage.phases == ["Reading the package index", "Extracting the essential packages"]


def test_downloaded_packages_are_kept_for_the_next_build(stage: Stage) -> None:
    archives = stage.target / "var/cache/apt/archives"
    stage.program(f"mkdir -p {archives}; echo package > {archives}/a_1_all.deb")
    stage.build()
    assert (stage.cache / "a_1_all.deb").read_text() == "package\n"
    assert list(archives.iterdir()) == []


def test_the_cache_forgets_packages_that_no_build_uses_any_more(stage: Stage) -> None:
    old, new = stage.cache / "old_1_all.deb", stage.cache / "new_1_all.deb"
    for package in (old, new):
        package.touch()
    os.utime(old, (0, 0))
    stage.program("")
    stage.build()
    assert sorted(stage.cache.iterdir()) == [new]


@pytest.mark.parametrize(
    ("said", "fact", "kind"),
    [
        ("E: Write error - write (28: No space left on device)", "disk is full", UserError),
        ("Err:1 http://m.test x\n  Could not resolve 'm.test'", "cannot be reached", MirrorError),
        ("E: The repository 'x' does not have a Release file.", "no suite 'trixie'", MirrorError),
        ("W: GPG error: x: NO_PUBKEY 0E98404D386FA1D9", "signature", MirrorError),
        ("E: Release file for x is expired (invalid since 16d)", "expired", MirrorError),
        ("E: Unable to locate package nonsense", "not in the archive", UserError),
        ("E: something else", "something else", CommandError),
    ],
)
def test_failures_are_told_with_what_to_do(
    stage: Stage, said: str, fact: str, kind: type[UserError]
) -> None:
    stage.program(f'cat <<"END"\n{said}\nEND\nexit 25')
    with pytest.raises(kind) as caught:
        stage.build()
    assert fact in caught.value.fact
    assert caught.value.remedy or kind is CommandError


def test_a_missing_program_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmdebstrap, "find_program", lambda _name: _missing())
    with pytest.raises(UserError, match="not installed"):
        mmdebstrap.require()
    assert list(tmp_path.iterdir()) == []


def _missing() -> str:
    raise UserError("The program 'mmdebstrap' is not installed.")


def test_a_stop_ends_the_grandchildren_too(stage: Stage) -> None:
    """apt and the packages' scripts must not go on in a tree that is being removed."""
    # The grandchild holds a lock as long as it lives, whatever its process id is out here.
    lock = stage.folder / "lock"
    stage.program(
        f"(trap '' TERM INT; flock {lock} sh -c 'echo I: working; exec tail -f /dev/null') & wait"
    )
    script = textwrap.dedent(
        f"""
        import signal, sys
        from pathlib import Path
        from bootc_build.tools.mmdebstrap import build_tree
        def stop(number, frame): raise SystemExit(143)
        signal.signal(signal.SIGTERM, stop)
        build_tree(Path({str(stage.target)!r}), suite="trixie", architecture="amd64", sources=[], packages=[],
            keyring=Path("/k"), seed=lambda tree: None, cache=None, epoch=1,
            on_phase=print, on_line=lambda line: print(line, flush=True))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"I: working\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode == 0
