"""From a booting guest to a root shell on its console."""

import re
import time
from collections.abc import Callable
from enum import IntEnum

import pexpect

from bootc_build.vm.console import Console
from bootc_build.vm.errors import WaitTimeoutError
from bootc_build.vm.spec import Login

# "root@host:~# " of bash, "sh-5.2# " and "bash-5.2# " of shells without a profile, "~ # " of busybox.
_PROMPT = rb"(?:[\w.-]+@[^\s:@]+:[^\r\n#$]*|(?:ba|da)?sh-\d[\d.]*|[~/] )[#$] "
_LOGIN = rb"login: (?!\S+ \(automatic login\))\s*$"
_AUTOMATIC_LOGIN = rb"\(automatic login\)"
_PASSWORD = rb"[Pp]assword: ?$"
# Of sulogin, in rescue and emergency mode: it wants root's password and no name.
_MAINTENANCE = rb"Control-D to continue\): ?$"
_NUDGE_SECONDS = 20.0
_LOOK_SECONDS = 0.25
_NO_ACCOUNT_SECONDS = 5.0
_LOGIN_TRIES = 3
_NO_ACCOUNT_REMEDY = (
    "The guest does not take system credentials (agetty.autologin, login.noauth: Debian 13 and newer): "
    "give an account to log in with."
)
_MAINTENANCE_REMEDY = (
    "Its shell for maintenance wants root's password: give the account to log in with."
)


class _Seen(IntEnum):
    """What the console shows: the index of its pattern."""

    PROMPT = 0
    LOGIN = 1
    PASSWORD = 2
    MAINTENANCE = 3


def reach_shell(
    console: Console,
    *,
    login: Login | None,
    seconds: float,
    time_scale: float,
    elsewhere: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until a shell's prompt is on the console, logging in where that is asked for.

    Args:
        console: of the booting guest.
        login: the account, for guests that do not let root in by credential.
        seconds: how long it may take.
        time_scale: factor for the shorter waits inside.
        elsewhere: tells whether a shell has come up in another place, which ends the wait as well.

    Returns:
        Whether it is the console that has a shell.

    Raises:
        WaitTimeoutError: no shell in time; or a login is asked for and there is no account, or it is refused.
        ConsoleBadnessError, pexpect.EOF: the machine is in trouble, or gone.
    """
    deadline = time.monotonic() + seconds
    nudge = _NUDGE_SECONDS * time_scale
    prompt = re.compile(_PROMPT)
    tries = 0
    quiet_since = time.monotonic()
    while (left := deadline - time.monotonic()) > 0:
        if elsewhere():
            return False
        try:
            found = console.expect(
                [prompt, _LOGIN, _PASSWORD, _MAINTENANCE], timeout=min(left, _LOOK_SECONDS)
            )
        except pexpect.TIMEOUT:
            if time.monotonic() - quiet_since > nudge and _getty_is_there(console):
                console.sendline()  # The prompt may have been torn by a message: ask for another.
                quiet_since = time.monotonic()
            continue
        quiet_since = time.monotonic()
        if found == _Seen.PROMPT:
            return True
        if login is None:
            follows = _after_login(console, prompt, _NO_ACCOUNT_SECONDS * time_scale)
            if follows is None:
                if elsewhere():
                    return False
                raise WaitTimeoutError(
                    "The guest asks for a login and there is no account to give.",
                    _MAINTENANCE_REMEDY if found == _Seen.MAINTENANCE else _NO_ACCOUNT_REMEDY,
                    console.tail(),
                )
            if follows == 0:
                return True
            continue
        tries += found != _Seen.PASSWORD  # It belongs to the name before it.
        _answer(console, login, is_name=found == _Seen.LOGIN, tries=tries)
    raise WaitTimeoutError(
        f"No shell came up on the guest's console within {seconds:.0f} seconds.",
        "Does it boot with console=ttyS0 and run a getty there?",
        console.tail(),
    )


def _answer(console: Console, login: Login, *, is_name: bool, tries: int) -> None:
    """Type the account's name or its password."""
    if tries > _LOGIN_TRIES:
        raise WaitTimeoutError(
            f"The guest refuses the account '{login.user}' (tried {_LOGIN_TRIES} times).",
            "Check its name and password, and whether it may log in on this terminal.",
            console.tail(),
        )
    console.sendline(login.user if is_name else login.password)


def _after_login(console: Console, prompt: re.Pattern[bytes], seconds: float) -> int | None:
    """What comes after "login: ": 0 a shell, 1 the rest of an automatic login's line, None nothing."""
    try:
        return console.expect([prompt, _AUTOMATIC_LOGIN], timeout=seconds)
    except pexpect.TIMEOUT:
        return None


def _getty_is_there(console: Console) -> bool:
    return any(
        re.search(r"\blogin: |automatic login|Debian GNU/Linux", line) for line in console.tail()
    )
