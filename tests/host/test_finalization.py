"""What befalls the shutdown that makes a queued system the next one costs the queueing at most, and no download."""

from pathlib import Path

import pytest

from tests.host.pretend_boot import PretendHost, publish

_FINALIZE = ("ostree", "admin", "finalize-staged")


@pytest.fixture
def staged(host: PretendHost) -> PretendHost:
    """Version 2 is queued, and its layer cannot be fetched a second time."""
    publish(host, "2")
    host.bootc("upgrade")
    blobs = (host.scratch / "tmp/image/blobs/sha256").iterdir()
    max(blobs, key=lambda each: each.stat().st_size).unlink()
    return host


def power_comes_back(host: PretendHost) -> None:
    """Without whatever was in memory; nothing is finalized."""
    (host.run_directory / "ostree/staged-deployment").unlink(missing_ok=True)
    host.reboot()


def menu_generator(host: PretendHost, script: str) -> str:
    """A program in place of ours, as the guest finds it."""
    path: Path = host.scratch / "tmp/generator"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return "/tmp/generator"


def check_queued_again(host: PretendHost) -> None:
    status = host.status()
    assert (status["booted"]["image"]["version"], status["staged"]) == ("1", None)
    assert "Queued for next boot" in host.bootc("upgrade")
    assert "finalizeFailure" not in host.status()
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"
    assert host.execute("python3", "-m", "bootc_build.onhost", "internals", "fsck").status == 0


def test_a_power_cut_before_the_finalization(staged: PretendHost) -> None:
    power_comes_back(staged)
    check_queued_again(staged)


def test_a_power_cut_while_the_menu_is_written(staged: PretendHost) -> None:
    generator = menu_generator(staged, "kill -KILL $PPID")
    # The first process of its namespace could not be killed from inside.
    killed = f"OSTREE_GRUB2_EXEC={generator} {' '.join(_FINALIZE)}; exit $?"
    assert staged.execute("sh", "-c", killed).status == 128 + 9
    power_comes_back(staged)
    check_queued_again(staged)


def test_a_finalization_that_fails_is_shown_at_the_next_boot(staged: PretendHost) -> None:
    generator = menu_generator(staged, "echo the menu has no room >&2; exit 1")
    assert staged.execute("env", f"OSTREE_GRUB2_EXEC={generator}", *_FINALIZE).status != 0
    power_comes_back(staged)
    failure = staged.status()["finalizeFailure"]
    assert failure
    assert failure in staged.bootc("status", "--format=humanreadable")
    # A unit keeps the note and libostree's own one goes, which is written under /boot.
    (staged.sysroot / "boot/ostree/finalize-failure.stamp").unlink()
    check_queued_again(staged)


def test_a_power_cut_after_the_finalization_boots_the_new_system(staged: PretendHost) -> None:
    assert staged.execute(*_FINALIZE).status == 0
    power_comes_back(staged)
    assert staged.status()["booted"]["image"]["version"] == "2"
