"""A tag that is moved back to what is booted, after something newer was queued."""

import json
import shutil
from pathlib import Path

import pytest

from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost, publish

KARGS_2 = 'kargs = ["both=1", "two=2"]\n'
KARGS_3 = 'kargs = ["both=1", "three=3"]\n'


@pytest.fixture
def queued(host: PretendHost) -> PretendHost:
    """2 is booted, 3 is queued, and the tag is 2 again; reboots are written down."""
    publish(host, "2", KARGS_2)
    host.bootc("upgrade")
    host.reboot()
    shutil.copytree(host.scratch / "tmp/image", host.scratch / "tmp/two")
    publish(host, "3", KARGS_3)
    host.bootc("upgrade")
    back(host)
    reboot = host.scratch / "tmp/fake/systemd-run"
    reboot.write_text("#!/bin/sh\ntouch /run/reboots\n")
    reboot.chmod(0o755)
    return host


def back(host: PretendHost) -> None:
    shutil.rmtree(host.scratch / "tmp/image")
    shutil.copytree(host.scratch / "tmp/two", host.scratch / "tmp/image")


def reboots(host: PretendHost) -> bool:
    return (host.run_directory / "reboots").exists()


def test_withdrawn_update_is_dropped_and_nothing_reboots(queued: PretendHost) -> None:
    digest = queued.status()["staged"]["image"]["imageDigest"]
    said = queued.bootc("upgrade", "--apply", "--quiet")
    assert said.startswith("No update available.\n")
    assert f"what was queued is dropped ({digest})" in said
    assert queued.status()["staged"] is None
    assert not reboots(queued)
    assert not (queued.run_directory / "reboot-required").exists()
    queued.reboot()
    status = queued.status()
    assert status["booted"]["image"]["version"] == "2"
    assert status["rollback"]["image"]["version"] == "1"


def test_check_says_that_what_is_queued_was_withdrawn(queued: PretendHost) -> None:
    digest = queued.status()["staged"]["image"]["imageDigest"]
    said = queued.bootc("upgrade", "--check")
    assert "No changes in: oci:/tmp/image:image\n" in said
    assert f"{digest} is still queued" in said
    found = json.loads(queued.bootc("upgrade", "--check", "--format=json"))
    assert found["update"] is None
    assert found["withdrawn"] == {"imageDigest": digest, "version": "3"}
    assert queued.status()["staged"] is not None


def test_kernel_arguments_that_were_changed_meanwhile_stay_queued(queued: PretendHost) -> None:
    queued.bootc("kargs", "--append=own=1")
    said = queued.bootc("upgrade", "--apply")
    assert "what was queued is dropped" in said
    assert "Queued for next boot: oci:/tmp/image:image\n  Version: 2" in said
    assert reboots(queued)
    queued.reboot()
    assert queued.status()["booted"]["image"]["version"] == "2"
    arguments = queued.entries()[0]["options"].split()
    assert {"own=1", "two=2", "both=1"} < set(arguments)
    assert "three=3" not in arguments


def test_image_that_is_followed_instead_stays_queued(queued: PretendHost) -> None:
    """Its tag was moved to what is booted, but the host is to follow that one."""
    other: Path = queued.scratch / "tmp/other"
    write_image(other, queued.scratch, version="9")
    queued.bootc("switch", "--transport=oci", "/tmp/other:image")
    shutil.rmtree(other)
    shutil.copytree(queued.scratch / "tmp/two", other)
    queued.bootc("upgrade")
    staged = queued.status()["staged"]["image"]
    assert (staged["version"], staged["image"]["image"]) == ("2", "/tmp/other:image")
    assert "Staged update present, not changed" in queued.bootc("upgrade")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--from-downloaded", "--check"), "--from-downloaded does not go with --check"),
        (("--from-downloaded", "--download-only"), "does not go with --download-only"),
        (("--from-downloaded", "--tag=x"), "--from-downloaded does not go with --tag"),
        (("--from-downloaded", "--retry-failed"), "does not go with --retry-failed"),
        (("--check", "--retry-failed"), "--retry-failed does not go with --check"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    host: PretendHost, options: tuple[str, ...], fact: str
) -> None:
    done = host.execute(*BOOTC, "upgrade", *options)
    assert done.status == 2
    assert fact in done.stderr


def test_downloaded_update_of_a_locally_changed_tree_is_not_released(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    origin = host.root.with_name(f"{host.root.name}.origin")
    origin.write_text(origin.read_text() + "\n[packages]\nrequested=vim;\n")
    done = host.execute(*BOOTC, "upgrade", "--from-downloaded")
    assert done.status == 1
    assert "rpm-ostree reset" in done.stderr
