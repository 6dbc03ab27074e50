"""Completion, in the shells themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import VERBS, main

_ASK_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_bootc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script for bash."""
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "bootc"
    file.write_text(capsys.readouterr().out)
    return file


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK_BASH, "bash", str(script), "bootc", *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=script.parent,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_offers_every_verb(script: Path) -> None:
    assert set(VERBS) < complete(script, "")
    assert complete(script, "ro") == {"rollback"}


def test_bash_offers_the_options_of_a_verb_and_of_its_alias(script: Path) -> None:
    assert complete(script, "upgrade", "--ch") == {"--check"}
    assert complete(script, "update", "--check", "--ta") == {"--tag"}
    assert complete(script, "install", "to-filesystem", "--root-m") == {"--root-mount-spec"}
    assert "--mutate-in-place" not in complete(script, "switch", "--m")


def test_bash_offers_the_values_of_an_option(script: Path) -> None:
    assert complete(script, "status", "--format", "j") == {"json"}
    assert complete(script, "status", "--format", "=") == {"humanreadable", "yaml", "json"}
    assert complete(script, "status", "--format", "=", "y") == {"yaml"}
    assert complete(script, "completion", "z") == {"zsh"}
    (script.parent / "file.yaml").touch()
    assert complete(script, "edit", "-f", "fi") == {"file.yaml"}


def test_bash_takes_it_under_strict_settings(script: Path) -> None:
    script_text = f'source "{script}"; complete -p bootc'
    done = subprocess.run(
        ["bash", "--norc", "-uec", script_text], check=True, capture_output=True, text=True
    )
    assert done.stdout == "complete -F _bootc bootc\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_takes_its_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    file = tmp_path / "script"
    file.write_text(capsys.readouterr().out)
    subprocess.run([shell, "-n", str(file)], check=True)


def test_fish_offers_verbs_options_and_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    assert main(["completion", "fish"]) == 0
    file = tmp_path / "bootc.fish"
    file.write_text(capsys.readouterr().out)

    def offered(line: str) -> set[str]:
        command = f"source {file}; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", command],
            check=True,
            capture_output=True,
            text=True,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        return {offer.split("\t")[0] for offer in done.stdout.splitlines()}

    assert offered("bootc ro") == {"rollback"}
    assert offered("bootc upgrade --ch") == {"--check"}
    assert offered("bootc status --format j") == {"json"}


def test_zsh_offers_verbs_options_and_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    assert main(["completion", "zsh"]) == 0
    file = tmp_path / "_bootc"
    file.write_text(capsys.readouterr().out)
    # The completion system's functions, replaced by such as print what is offered.
    ask = """
    compdef() { :; }; compadd() { shift; print -l -- "$@"; }; _files() { print FILES; }
    _describe() { print -l -- "${(@P)2}"; }
    source $1; shift; words=("$@"); CURRENT=$#; _bootc
    """

    def offered(*words: str) -> list[str]:
        done = subprocess.run(
            ["zsh", "-f", "-c", ask, "zsh", str(file), "bootc", *words],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert "rollback:boot the previous system next" in offered("")
    assert "--check:say whether there is an update; fetch nothing" in offered("upgrade", "")
    assert offered("status", "--format", "") == ["humanreadable", "yaml", "json"]
    assert offered("edit", "-f", "") == ["FILES"]
