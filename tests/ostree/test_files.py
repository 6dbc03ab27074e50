"""Files that are read out of a commit."""

import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost.ostree.files import file_head
from bootc_build.onhost.ostree.repo import create_repo


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(0, b""), (3, b"abc"), (5, b"abcde"), (9, b"abcde")],
)
def test_the_head_of_a_file_is_read_without_a_word_on_stderr(
    asked: int, expected: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"abcde")
    repo = create_repo(tmp_path / "repo")
    command = ["ostree", "commit", f"--repo={tmp_path / 'repo'}", "--orphan"]
    made = subprocess.run(
        [*command, f"--tree=dir={tmp_path / 'tree'}"], check=True, capture_output=True, text=True
    )
    assert file_head(repo, made.stdout.strip(), "file", asked) == (expected, 5)
    assert capfd.readouterr().err == ""
