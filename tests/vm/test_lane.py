"""The virtio serial port's shell: both halves, with a pseudo-terminal for the port."""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from bootc_build.vm.console import Console
from bootc_build.vm.errors import ConsoleBadnessError, MachineError, ShellLostError
from bootc_build.vm.lane import Lane, lane_credentials
from bootc_build.vm.login import reach_shell
from bootc_build.vm.shell import CommandOverrunError
from bootc_build.vm.waiting import wait_until
from tests.vm.fake_lane import FakeLane

_BINARY = random.Random(7).randbytes(300_000)  # noqa: S311 - any bytes do


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeLane]:
    with FakeLane(tmp_path) as guest:
        yield guest


@pytest.fixture
def console(fake: FakeLane, tmp_path: Path) -> Iterator[Console]:
    with Console(fake.console, log=tmp_path / "log", name="fake") as one:
        yield one


@pytest.fixture
def lane(fake: FakeLane, console: Console) -> Lane:
    lane = Lane(fake.lane, console, time_scale=0.1)
    assert wait_until(lane.has_said_hello, seconds=20)
    return lane


def test_a_command_gives_status_and_both_outputs_apart(lane: Lane) -> None:
    done = lane.run("echo out; echo err >&2; exit 7", seconds=10)
    assert (done.status, done.text, done.error_text) == (7, "out\n", "err\n")


@pytest.mark.parametrize("command", ["true", "printf ''", "cat"])
def test_a_command_without_output_gives_none(lane: Lane, command: str) -> None:
    done = lane.run(command, seconds=10)
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")


def test_any_text_is_a_command(lane: Lane) -> None:
    command = "printf '%s\\n' 'it''s' \"größer\" `echo x`\nprintf %s '" + "y" * 9000 + "'"
    assert lane.run(command, seconds=10).text == "its\ngrößer\nx\n" + "y" * 9000


def test_output_that_looks_like_an_answer_is_none(lane: Lane) -> None:
    said = "@1 0 5 5\n@2 0 0 0\n\n@hello 00000000-0000-0000-0000-000000000000\n"
    assert lane.run(f"printf '{said}'", seconds=10).text == said
    assert lane.run("echo next", seconds=10).text == "next\n"


def test_binary_files_go_in_and_come_out_whole(lane: Lane) -> None:
    held = lane.upload(_BINARY)
    assert lane.run(f"cat {held}; cat {held} >&2", seconds=10) == lane.run(
        f"cat {held} | tee /dev/stderr", seconds=10
    )
    assert lane.run(f"cat {held}", seconds=10).stdout == _BINARY
    assert lane.upload(b"") == held
    assert lane.run(f"cat {held}", seconds=10).stdout == b""


@pytest.mark.parametrize("name", ["f", "c"])
def test_what_finds_no_room_is_told_and_changes_nothing_else(
    lane: Lane, tmp_path: Path, name: str
) -> None:
    place = tmp_path / "bootc-build-lane" / name
    lane.run(f"rm -f {place}; ln -s /dev/full {place}", seconds=10)
    with pytest.raises(MachineError, match="no room in /run for"):
        lane.upload(b"content" * 10_000) if name == "f" else lane.run("exit 3", seconds=10)
    place.unlink()
    assert lane.run("echo alive", seconds=10).text == "alive\n"
    assert Path(lane.upload(b"content")).read_bytes() == b"content"


def test_a_command_that_overruns_is_ended_and_the_shell_lives_on(lane: Lane) -> None:
    with pytest.raises(CommandOverrunError) as caught:
        lane.run("echo begun; sleep 1000", seconds=1)
    assert caught.value.partial.text == "begun\n"
    assert lane.run("exit 124", seconds=10).status == 124


def test_a_command_may_take_for_ever(lane: Lane) -> None:
    assert lane.run("echo done", seconds=float("inf")).text == "done\n"


def test_what_a_command_leaves_running_holds_nothing_up(lane: Lane) -> None:
    begun = time.monotonic()
    assert lane.run("setsid sleep 20 & echo started", seconds=30).text == "started\n"
    assert time.monotonic() - begun < 15


def test_a_new_boot_says_hello_again_and_old_answers_do_not_count(
    lane: Lane, fake: FakeLane, tmp_path: Path
) -> None:
    assert not lane.has_said_hello()
    begun = tmp_path / "begun"
    lane.cast(f"touch {begun}; echo never read; sleep 100")
    assert wait_until(begun.exists, seconds=20)
    fake.stop()
    fake.start()
    assert wait_until(lane.has_said_hello, seconds=20)
    assert lane.run("echo new", seconds=10).text == "new\n"


def test_a_guest_that_answers_no_more_is_told(lane: Lane, fake: FakeLane, console: Console) -> None:
    fake.far_console.sendall(b"last words\r\n")
    assert console.wait_for_line(re.compile("last"), seconds=10)
    fake.stop()
    with pytest.raises(ShellLostError, match="no longer answers") as caught:
        lane.run("true", seconds=0.1)
    assert caught.value.console_tail == ("last words",)


def test_a_shell_that_the_guest_has_closed_is_told_at_once(lane: Lane, fake: FakeLane) -> None:
    fake.stop()
    lane.note_port(is_open=False)
    begun = time.monotonic()
    with pytest.raises(ShellLostError, match="has closed its shell"):
        lane.run("true", seconds=300)
    assert time.monotonic() - begun < 30
    fake.start()
    lane.note_port(is_open=True)
    assert wait_until(lane.has_said_hello, seconds=20)
    assert lane.run("echo back", seconds=10).text == "back\n"


def test_a_panic_on_the_console_ends_a_wait_at_once(lane: Lane, fake: FakeLane) -> None:
    fake.far_console.sendall(b"[    9.000000] Kernel panic - not syncing: Fatal exception\r\n")
    begun = time.monotonic()
    with pytest.raises(ConsoleBadnessError, match="kernel panic"):
        lane.run("sleep 30", seconds=60)
    assert time.monotonic() - begun < 10


def test_the_end_of_the_machine_ends_a_wait_at_once(lane: Lane, fake: FakeLane) -> None:
    fake.die()
    with pytest.raises(pexpect.EOF):
        lane.run("sleep 30", seconds=60)


def test_a_restored_guest_whose_clock_stays_wrong_is_told(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it runs sets no clock, so it stays an hour behind.
    now = time.time() + 3600
    monkeypatch.setattr("bootc_build.vm.lane.time.time", lambda: now)
    monkeypatch.setattr("bootc_build.vm.lane.clock_setting", lambda: "true")
    with pytest.raises(ShellLostError, match=r"clock stays -3[56]"):
        lane.take_over(seconds=0.5)


def test_a_lane_that_comes_up_ends_the_wait_for_the_console(
    lane: Lane, fake: FakeLane, console: Console
) -> None:
    fake.stop()
    fake.start()
    assert not reach_shell(
        console, login=None, seconds=30, time_scale=1, elsewhere=lane.has_said_hello
    )


def test_the_other_end_comes_with_the_guests_credentials() -> None:
    names = dict(lane_credentials())
    unit = names["systemd.extra-unit.bootc-build-lane.service"]
    [script] = set(re.findall(r"%d/(\S+)", unit))
    assert "/dev/virtio-ports/bootc-build.lane" in names[script]
    assert (
        "bootc-build-lane.service"
        in names["systemd.unit-dropin.multi-user.target~bootc-build-lane"]
    )
