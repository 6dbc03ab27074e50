"""The console and the framed shell, against a shell on a pseudo-terminal."""

import queue
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from bootc_build.vm.console import Console, plain_text
from bootc_build.vm.errors import ConsoleBadnessError, ShellLostError, WaitTimeoutError
from bootc_build.vm.login import reach_shell
from bootc_build.vm.shell import CommandOverrunError, GuestShell
from bootc_build.vm.spec import Login
from tests.vm.fake_guest import FakeGuest, fake_guest

_BINARY = random.Random(7).randbytes(40_000)  # noqa: S311 - any bytes do


@contextmanager
def _open_console(guest: FakeGuest, log: Path) -> Iterator[Console]:
    with Console(guest.console, log=log, name="fake") as console:
        yield console


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[GuestShell]:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        yield _prepared(console)


def _prepared(console: Console) -> GuestShell:
    reach_shell(console, login=None, seconds=10, time_scale=1)
    shell = GuestShell(console, time_scale=0.1)
    shell.prepare(seconds=10)
    return shell


def test_a_command_gives_status_and_both_outputs_apart(shell: GuestShell) -> None:
    done = shell.run("echo out; echo err >&2; exit 7", seconds=10)
    assert (done.status, done.text, done.error_text) == (7, "out\n", "err\n")


@pytest.mark.parametrize("command", ["true", "printf ''", "cat"])
def test_a_command_without_output_gives_none(shell: GuestShell, command: str) -> None:
    done = shell.run(command, seconds=10)
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "command",
    ["echo 'it''s \"$HOME\" `x`'", "echo a\necho b", "echo " + "x" * 5000, "echo größer"],
)
def test_any_text_is_a_command(shell: GuestShell, command: str) -> None:
    done = shell.run(command, seconds=10)
    assert done.status == 0
    assert done.text.endswith("\n")
    assert "$HOME" not in command or done.text == 'its "$HOME" `x`\n'


def test_output_is_not_touched_by_terminal_or_frame(shell: GuestShell) -> None:
    assert shell.run("printf '\\r\\n\\0\\001@end@\\033[6n'", seconds=10).stdout == (
        b"\r\n\0\x01@end@\x1b[6n"
    )


def test_binary_files_go_in_and_come_out_whole(shell: GuestShell) -> None:
    held = shell.upload(_BINARY)
    assert shell.run(f"cat {held}", seconds=10).stdout == _BINARY


def test_kernel_messages_in_every_line_change_nothing(tmp_path: Path) -> None:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        shell = _prepared(console)
        guest.storm = 0.7
        held = shell.upload(_BINARY)
        done = shell.run(f"cat {held}; echo noise >&2; exit 3", seconds=30)
        assert (done.status, done.stdout, done.stderr) == (3, _BINARY, b"noise\n")
    assert "audit: all is well" in (tmp_path / "log").read_text()


def test_lost_bytes_are_asked_for_again(tmp_path: Path) -> None:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        shell = _prepared(console)
        held = shell.upload(_BINARY)
        guest.damage = 0.1
        assert shell.run(f"cat {held}", seconds=30).stdout == _BINARY


def test_a_command_that_overruns_is_interrupted_and_the_shell_lives_on(shell: GuestShell) -> None:
    with pytest.raises(CommandOverrunError) as caught:
        shell.run("echo begun; sleep 1000", seconds=1)
    assert caught.value.partial.text == "begun\n"
    assert shell.run("echo alive", seconds=10).text == "alive\n"


_LOGIN_AGAIN = "while printf 'fake login: '; read user; do echo; echo 'Login incorrect'; done"


@pytest.mark.parametrize("other", ["bash --norc -i", "sh -i", "cat", f'bash -c "{_LOGIN_AGAIN}"'])
def test_a_program_in_the_place_of_the_shell_is_told_soon(shell: GuestShell, other: str) -> None:
    reset = "" if other == "cat" else "stty sane; "
    shell.cast(f"{reset}exec {other}")
    begun = time.monotonic()
    with pytest.raises(ShellLostError, match="another program") as caught:
        shell.run("true", seconds=300)
    assert time.monotonic() - begun < 30
    assert caught.value.console_tail


def test_a_command_may_switch_the_echo_on(shell: GuestShell) -> None:
    terminal = shell.run("ps -o tty= -p $PPID", seconds=10).text.strip()
    shell.run(f"stty echo -F /dev/{terminal}", seconds=10)
    # Longer than an answer may take that follows an echo.
    assert shell.run("sleep 2; echo alive", seconds=20).text == "alive\n"


def test_a_panic_ends_a_wait_at_once_with_its_lines(tmp_path: Path) -> None:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        shell = _prepared(console)
        guest.kernel_says("Kernel panic - not syncing: Attempted to kill init!")
        guest.kernel_says("CPU: 0 PID: 1 Comm: init")
        begun = time.monotonic()
        with pytest.raises(ConsoleBadnessError, match="kernel panic") as caught:
            shell.run("sleep 30", seconds=60)
        assert time.monotonic() - begun < 5
        assert any("CPU: 0 PID: 1" in line for line in caught.value.console_tail)


def test_what_is_forgotten_is_not_found_again(tmp_path: Path) -> None:
    with fake_guest("cat") as guest, _open_console(guest, tmp_path / "log") as console:
        guest.kernel_says("GNU GRUB")
        with pytest.raises(pexpect.TIMEOUT):
            console.expect_exact([b"something else"], timeout=0.5)
        guest.kernel_says("GNU GRUB once more")
        assert console.wait_for_line(re.compile("once more"), seconds=10)
        console.forget_unread()
        with pytest.raises(pexpect.TIMEOUT):
            console.expect_exact([b"GNU GRUB"], timeout=0.5)
        guest.kernel_says("GNU GRUB")
        console.expect_exact([b"GNU GRUB"], timeout=10)


def test_the_end_of_the_machine_ends_a_wait_at_once(tmp_path: Path) -> None:
    with (
        fake_guest("sh", "-c", "echo last words; sleep 0.2") as guest,
        _open_console(guest, tmp_path / "log") as console,
    ):
        guest._far.shutdown(socket.SHUT_RDWR)  # what the death of QEMU does
        with pytest.raises(pexpect.EOF):
            reach_shell(console, login=None, seconds=30, time_scale=1)


def test_a_silent_guest_is_reported_with_what_was_awaited(tmp_path: Path) -> None:
    with (
        fake_guest("sh", "-c", "echo Booting something; sleep 60") as guest,
        _open_console(guest, tmp_path / "log") as console,
        pytest.raises(WaitTimeoutError, match=r"No shell.*within 1 seconds") as caught,
    ):
        reach_shell(console, login=None, seconds=1, time_scale=1)
    assert "Booting something" in str(caught.value)


_GETTY = (
    "printf 'fake login: '; read user; printf 'Password: '; read word;"
    '[ "$user:$word" = me:secret ] && exec bash --norc -i; echo wrong; sleep 60'
)


def test_an_account_logs_in_where_credentials_are_not_taken(tmp_path: Path) -> None:
    with (
        fake_guest("bash", "-c", _GETTY) as guest,
        _open_console(guest, tmp_path / "log") as console,
    ):
        reach_shell(console, login=Login("me", "secret"), seconds=10, time_scale=1)


def test_an_account_that_is_refused_is_told_before_the_time_is_over(tmp_path: Path) -> None:
    refusing = "while printf 'fake login: '; read user; do printf 'Password: '; read word; echo wrong; done"
    with (
        fake_guest("bash", "-c", refusing) as guest,
        _open_console(guest, tmp_path / "log") as console,
        pytest.raises(WaitTimeoutError, match="refuses the account 'me'"),
    ):
        reach_shell(console, login=Login("me", "no secret"), seconds=300, time_scale=1)


_SULOGIN = (
    "while echo 'Enter root password for system maintenance';"
    " printf '(or press Control-D to continue): '; read word; do"
    ' [ "$word" = secret ] && exec bash --norc -i; echo; echo Login incorrect; done'
)


def test_the_shell_for_maintenance_wants_a_password_and_no_name(tmp_path: Path) -> None:
    with (
        fake_guest("bash", "-c", _SULOGIN) as guest,
        _open_console(guest, tmp_path / "log") as console,
    ):
        reach_shell(console, login=Login("root", "secret"), seconds=10, time_scale=1)


@pytest.mark.parametrize(
    ("login", "message"),
    [(None, "wants root's password"), (Login("root", "none"), "refuses the account 'root'")],
)
def test_the_shell_for_maintenance_stays_closed_and_that_is_told_soon(
    tmp_path: Path, login: Login | None, message: str
) -> None:
    with (
        fake_guest("bash", "-c", _SULOGIN) as guest,
        _open_console(guest, tmp_path / "log") as console,
        pytest.raises(WaitTimeoutError, match=message),
    ):
        reach_shell(console, login=login, seconds=300, time_scale=0.1)


def test_a_login_without_an_account_is_told_soon(tmp_path: Path) -> None:
    with (
        fake_guest("bash", "-c", _GETTY) as guest,
        _open_console(guest, tmp_path / "log") as console,
        pytest.raises(WaitTimeoutError, match="no account"),
    ):
        reach_shell(console, login=None, seconds=30, time_scale=0.1)


def test_an_automatic_login_that_is_read_in_halves_is_no_question(tmp_path: Path) -> None:
    # The second half comes at once, the shell later than the patience with guests that ask.
    halves = "printf 'host login: '; sleep 0.2; echo 'root (automatic login)'; sleep 1; exec bash --norc -i"
    with (
        fake_guest("bash", "-c", halves) as guest,
        _open_console(guest, tmp_path / "log") as console,
    ):
        reach_shell(console, login=None, seconds=30, time_scale=0.1)


def test_the_log_has_words_with_times_and_no_frames(tmp_path: Path) -> None:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        shell = _prepared(console)
        shell.run("head -c 5000 /dev/zero", seconds=10)
        guest.kernel_says("hello from the kernel")
        assert console.wait_for_line(re.compile("hello"), seconds=5)
    log = (tmp_path / "log").read_text()
    assert "hello from the kernel" in log
    assert "AAAAAAAA" not in log
    assert all(line.startswith("[ ") for line in log.splitlines())


def test_a_person_gets_echo_and_a_prompt_and_gives_them_back(tmp_path: Path) -> None:
    with fake_guest() as guest, _open_console(guest, tmp_path / "log") as console:
        shell = _prepared(console)
        shell.hand_over()
        console.expect_exact(b"root@guest:", timeout=10)
        console.send("echo by $((40 + 2)) hand\n")
        console.expect_exact(b"echo by $((40 + 2)) hand", timeout=10)
        console.expect_exact(b"by 42 hand", timeout=10)
        reach_shell(console, login=None, seconds=10, time_scale=1)
        shell.prepare(seconds=10)
        assert shell.run("echo framed", seconds=10).text == "framed\n"


def test_colours_and_cursor_movements_are_no_text() -> None:
    assert plain_text(b"\x1b[0;32m  OK  \x1b[0m done\x1b[6n\x1b]0;title\x07\r") == "  OK   done"


def test_who_comes_late_is_told_what_nobody_has_read(tmp_path: Path) -> None:
    guest, host = socket.socketpair()
    with guest, host, Console(host, log=tmp_path / "log") as console:
        guest.sendall(b"first words\n")
        assert console.wait_for_line(re.compile("first words"), seconds=10) is not None
        heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        console.add_listener(heard.put, unread=True)
        assert heard.get(timeout=10) == b"first words\n"
        # They stay to be read.
        console.expect_exact("first words", timeout=10)
