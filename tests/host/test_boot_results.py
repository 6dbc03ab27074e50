"""What becomes of a boot: a complete one is good, one that was fallen back from is remembered and not queued again."""

import shutil
from pathlib import Path
from threading import Timer

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.boot_count import format_block, parse_block, read_counts
from bootc_build.onhost.host.boot_record import (
    FailedImage,
    find_failed,
    forget,
    on_trial,
    read_boot_health,
    read_failed,
    remember,
)
from bootc_build.onhost.host.stage import wait_until_settled
from bootc_build.onhost.host.upgrade import failed_message
from bootc_build.onhost.oci.reference import ImageReference
from tests.host.pretend_boot import BOOTC, PretendHost, publish


def counts(host: PretendHost) -> dict[str, str]:
    return read_counts(str(host.sysroot / "boot/bootc.env"))


def set_counts(host: PretendHost, values: dict[str, str]) -> None:
    (host.sysroot / "boot/bootc.env").write_text(format_block(values))


def notes(host: PretendHost, text: str) -> None:
    """What the failing boot of the booted deployment leaves behind."""
    folder = host.sysroot / "ostree/deploy/default/var/lib/bootc/boot-failures.d"
    folder.mkdir(parents=True)
    (folder / host.root.name).write_text(text)


def fall_back(host: PretendHost, why: str = "tries") -> None:
    """The boot menu takes the second entry, and the system that boots is told so."""
    host.reboot(entry=1)
    host.bootc("internals", "boot-fell-back", why)


def test_a_complete_boot_is_good_and_ends_its_count(host: PretendHost) -> None:
    set_counts(host, {"other": "kept", "bootc_counted": host.root.name, "bootc_left": "1"})
    host.bootc("internals", "boot-complete")
    assert counts(host) == {"other": "kept", "bootc_good": host.root.name}
    assert (host.sysroot / "boot/bootc.env").stat().st_size == 1024


def test_the_count_is_made_where_there_is_none(host: PretendHost) -> None:
    (host.sysroot / "boot/bootc.env").unlink()
    host.bootc("internals", "boot-complete")
    assert counts(host) == {"bootc_good": host.root.name}


def test_what_was_fallen_back_to_stays_and_what_failed_is_not_queued_again(
    host: PretendHost,
) -> None:
    digest = publish(host, "2")
    good = host.root.name
    host.bootc("upgrade")
    host.reboot()
    bad = host.root.name
    set_counts(host, {"bootc_counted": bad, "bootc_left": "0"})
    notes(host, "The boot failed: application.service\nJan 01 app: no licence\n")
    fall_back(host)

    assert counts(host) == {"bootc_good": good}
    status = host.status()
    assert status["booted"]["image"]["version"] == "1"
    assert status["rollback"]["image"]["version"] == "2"
    assert status["rollbackQueued"] is False
    [failed] = status["failedImages"]
    assert (failed["imageDigest"], failed["version"]) == (digest, "2")
    assert failed["reason"] == "The boot failed: application.service"
    text = host.bootc("status", "--format=humanreadable")
    assert "Reason: The boot failed: application.service" in text
    assert "Jan 01 app: no licence" in text

    # The same again changes nothing: the default is what runs.
    host.bootc("internals", "boot-fell-back", "tries")
    assert host.status()["failedImages"] == [failed]

    said = host.bootc("upgrade")
    assert "image, version 2, did not boot here, " in said
    assert digest in said
    assert "bootc upgrade --retry-failed" in said
    assert "--retry-failed" in host.bootc("upgrade", "--check")
    assert host.status()["staged"] is None

    host.bootc("upgrade", "--retry-failed")
    status = host.status()
    assert status["staged"]["image"]["imageDigest"] == digest
    assert "failedImages" not in status


def test_a_mended_image_is_queued_and_the_record_stays(host: PretendHost) -> None:
    bad = publish(host, "2")
    layout, kept = host.scratch / "tmp/image", host.scratch / "tmp/kept"
    shutil.copytree(layout, kept)
    host.bootc("upgrade")
    host.reboot()
    fall_back(host, "kernel")
    publish(host, "3")
    assert "Queued for next boot" in host.bootc("upgrade")
    host.reboot()
    host.bootc("internals", "boot-complete")
    status = host.status()
    assert status["booted"]["image"]["version"] == "3"
    [failed] = status["failedImages"]
    assert failed["imageDigest"] == bad
    assert failed["reason"] == "The boot loader could not load its kernel or initramfs"
    # It is still not queued when the tag goes back to it.
    shutil.rmtree(layout)
    shutil.move(kept, layout)
    assert bad in host.bootc("upgrade")
    assert host.status()["staged"] is None


def test_a_failed_image_that_boots_after_all_is_forgotten(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    fall_back(host)
    host.reboot(entry=1)  # somebody chose it in the menu
    host.bootc("internals", "boot-complete")
    assert "failedImages" not in host.status()


def test_the_reason_is_what_the_menu_says_where_the_boot_left_no_word(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    fall_back(host)
    assert "left no word" in host.status()["failedImages"][0]["reason"]


def test_an_unknown_reason_is_wrong_usage(host: PretendHost) -> None:
    assert host.execute(*BOOTC, "internals", "boot-fell-back", "whim").status == 2


def test_a_block_keeps_what_others_put_there() -> None:
    values = {"saved_entry": "2", "bootc_good": "a.0"}
    text = format_block(values)
    assert len(text) == 1024
    assert text.endswith("#")
    assert parse_block(text) == values


def test_the_counts_fit_into_one_sector() -> None:
    name = f"{'a' * 64}.99"
    text = format_block({"bootc_good": name, "bootc_counted": name, "bootc_left": "9"})
    assert text[512:] == "#" * 512


def test_a_block_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        format_block({"name": "x" * 1024})


def failed_image(number: int) -> FailedImage:
    return FailedImage(f"sha256:{number}", f"config:{number}", "os", None, "a.0", "why", "then")


def test_an_image_without_a_version_is_named_without_one() -> None:
    said = failed_message(ImageReference("registry", "registry.example/os:1"), failed_image(1))
    assert said.startswith(
        "The newest image of registry.example/os:1 did not boot here, then: why\n"
    )


def test_the_record_is_bounded_and_takes_the_latest_first(tmp_path: Path) -> None:
    for number in range(25):
        remember(failed_image(number), str(tmp_path))
    known = read_failed(str(tmp_path))
    assert len(known) == 20
    assert known[0] == failed_image(24)
    forget("sha256:24", str(tmp_path))
    assert read_failed(str(tmp_path))[0] == failed_image(23)


def test_the_same_image_compressed_anew_is_known(tmp_path: Path) -> None:
    remember(failed_image(1), str(tmp_path))
    assert find_failed("sha256:other", "config:1", str(tmp_path)) == failed_image(1)
    assert find_failed("sha256:other", "", str(tmp_path)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": [1]}', '{"images": [{}]}'])
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "var/lib/bootc/failed-images.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert read_failed(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("command_line", "files", "expected"),
    [
        ("rw", [], ("pending", None, None, False)),
        ("rw bootc.trial=2 panic=10", [], ("pending", 2, None, False)),
        ("rw bootc.trial=manual", [], ("pending", None, None, False)),
        ("rw bootc.trial=2", ["boot-complete"], ("healthy", None, None, False)),
        ("rw bootc.trial=0", ["boot-failed"], ("failed", 0, "why", False)),
        ("rw bootc.fellback=tries", ["boot-complete"], ("healthy", None, None, True)),
    ],
)
def test_health_is_what_the_boot_left(
    tmp_path: Path,
    command_line: str,
    files: list[str],
    expected: tuple[str, int | None, str | None, bool],
) -> None:
    for folder in ("proc", "run/bootc", "usr/libexec/bootc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text(command_line)
    assert read_boot_health(str(tmp_path)) is None
    (tmp_path / "usr/libexec/bootc/boot-complete").touch()
    for name in files:
        (tmp_path / "run/bootc" / name).write_text("why\n")
    health = read_boot_health(str(tmp_path))
    assert health is not None
    assert (health.state, health.tries_left, health.reason, health.fell_back) == expected
    assert on_trial(command_line) == ("bootc.trial" in command_line)


def test_nothing_is_queued_on_trial(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "run/bootc").mkdir(parents=True)
    command_line = tmp_path / "proc/cmdline"
    said: list[str] = []
    command_line.write_text("rw bootc.fellback=tries")
    wait_until_settled(said.append, root=str(tmp_path), seconds=0)
    command_line.write_text("rw bootc.trial=1")
    with pytest.raises(UserError, match="is not complete yet") as caught:
        wait_until_settled(said.append, root=str(tmp_path), seconds=0)
    assert "bootc rollback" in caught.value.remedy
    assert said == []
    (tmp_path / "run/bootc/boot-failed").touch()
    with pytest.raises(UserError, match="its boot failed"):
        wait_until_settled(said.append, root=str(tmp_path), seconds=600)
    (tmp_path / "run/bootc/boot-failed").unlink()
    settle = Timer(0.1, (tmp_path / "run/bootc/settled").touch)
    settle.start()
    wait_until_settled(said.append, root=str(tmp_path), seconds=600)
    settle.join()
    assert len(said) == 1
