"""The command line of ``bootc`` where no system is booted: usage, messages, exit statuses."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import VERBS, build_parser, main
from bootc_build.onhost.host import booted, signals, switch
from bootc_build.onhost.oci.reference import ImageReference


@pytest.mark.parametrize("verb", ["upgrade", "update", "rollback"])
def test_changing_needs_a_booted_host(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 1
    assert capsys.readouterr().err.startswith("error: this command requires a booted host system\n")


def test_status_in_a_container_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--format=humanreadable"]) == 0
    assert capsys.readouterr().out == "System is not deployed via bootc.\n"
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"]["booted"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--format-version=2"],
        ["switch", "--transport=carrier-pigeon", "x"],
        ["switch", "docker://quay.io/a/b"],
        ["upgrade", "--from-downloaded", "--check"],
        ["upgrade", "--soft-reboot=auto", "--check"],
        ["upgrade", "--progress-fd=2"],
        ["upgrade", "--progress-fd=900"],
        ["switch", "--progress-fd=x", "quay.io/a/b"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["upgrade", "--check", "--apply"], ["switch"]]
)
def test_arguments_that_do_not_parse_are_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-V"], "bootc "),
        (["--version"], "bootc "),
        (["help"], "usage: bootc [-h]"),
        (["help", "update"], "usage: bootc upgrade [-h]"),
        (["help", "status"], "usage: bootc status [-h]"),
        (["help", "install", "to-disk"], "usage: bootc install to-disk [-h]"),
    ],
)
def test_help_and_version_have_upstreams_spellings(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(said)


def test_every_verb_has_help() -> None:
    help_text = build_parser().format_help()
    for verb, summary in VERBS.items():
        assert f"    {verb} " in help_text
        assert summary in help_text


def test_status_does_not_load_what_only_writing_needs() -> None:
    code = (
        "import sys; from bootc_build.onhost.cli.main import main; main(['status', '--json']); "
        "print([name for name in ('gi', 'yaml', 'tarfile', 'subprocess') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_in_place_switch_rewrites_the_newest_origin_alone(tmp_path: Path) -> None:
    deploy = tmp_path / "ostree/deploy/default/deploy"
    for age, name in enumerate(("new.0", "old.0")):
        (deploy / name).mkdir(parents=True)
        os.utime(deploy / name, (1000 - age, 1000 - age))
        text = "[origin]\ncontainer-image-reference=x\n[vendor]\na=b\n"
        (deploy / f"{name}.origin").write_text(text)
    target = ImageReference.parse_cli("quay.io/a/b:2")
    assert switch.mutate_in_place(target, tmp_path) == "new.0"
    new = (deploy / "new.0.origin").read_text()
    assert "container-image-reference=ostree-unverified-registry:quay.io/a/b:2\n" in new
    assert "[vendor]\na=b\n" in new
    assert "container-image-reference=x\n" in (deploy / "old.0.origin").read_text()


def test_lock_holder_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w"):
        (holder,) = booted.lock_holders(str(lock))
    assert f"(process {os.getpid()}, for " in holder
    assert "python" in holder
    assert booted.lock_holders(str(lock)) == []


def test_journal_gets_the_fields(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(path)
        signals.journal("Rolling back", {"MESSAGE_ID": signals.ROLLBACK_MESSAGE_ID}, path)
        lines = journald.recv(4096).decode().splitlines()
    assert "MESSAGE=Rolling back" in lines
    assert "MESSAGE_ID=26f3b1eb24464d12aa5e7b544a6b5468" in lines
    signals.journal("Nobody listens", {}, str(tmp_path / "absent"))


def test_others_learn_that_a_reboot_is_wanted_and_that_the_status_changed(tmp_path: Path) -> None:
    signals.reboot_required("sha256:ab", tmp_path / "reboot-required")
    said = (tmp_path / "reboot-required").read_text()
    assert said == "bootc: Reboot required for image: sha256:ab"
    (tmp_path / "ostree").mkdir()
    signals.status_changed(tmp_path)
    os.utime(tmp_path / "ostree/bootc", (0, 0))
    signals.status_changed(tmp_path)
    assert (tmp_path / "ostree/bootc").stat().st_mtime > 0


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("No module named 'gi'", name="gi"), "python3-gi"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), "python3-yaml"),
        (ValueError("Namespace OSTree not available"), "gir1.2-ostree-1.0"),
    ],
)
def test_what_a_plain_host_lacks_is_named(
    error: Exception,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lacking(_arguments: object) -> int:
        raise error

    monkeypatch.setattr("bootc_build.onhost.cli.rollback.run", lacking)
    assert main(["rollback"]) == 1
    assert f"Install the package {package}.\n" in capsys.readouterr().err
