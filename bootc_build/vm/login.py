"""From a booting guest to a root shell on its console."""

import re
import time

import pexpect

from bootc_build.vm.console import Console
from bootc_build.vm.errors import WaitTimeoutError
from bootc_build.vm.spec import Login

# "root@host:~# " of bash, "sh-5.2# " and "bash-5.2# " of shells without a profile, "~ # " of busybox.
_PROMPT = rb"(?:[\w.-]+@[^\s:@]+:[^\r\n#$]*|(?:ba|da)?sh-\d[\d.]*|[~/] )[#$] "
_LOGIN = rb"login: (?!\S+ \(automatic login\))\s*$"
_AUTOMATIC_LOGIN = rb"\(automatic login\)"
_PASSWORD = rb"[Pp]assword: ?$"
_NUDGE_SECONDS = 20.0
_NO_ACCOUNT_SECONDS = 5.0
_NO_ACCOUNT_REMEDY = (
    "The guest does not take system credentials (agetty.autologin, login.noauth: Debian 13 and newer): "
    "give an account to log in with."
)


def reach_shell(
    console: Console, *, login: Login | None, seconds: float, time_scale: float
) -> None:
    """Wait until a shell's prompt is on the console, logging in where that is asked for.

    Args:
        console: of the booting guest.
        login: the account, for guests that do not let root in by credential.
        seconds: how long it may take.
        time_scale: factor for the shorter waits inside.

    Raises:
        WaitTimeoutError: no shell in time, or a login is asked for and there is no account.
        ConsoleBadnessError, pexpect.EOF: the machine is in trouble, or gone.
    """
    deadline = time.monotonic() + seconds
    nudge = _NUDGE_SECONDS * time_scale
    prompt = re.compile(_PROMPT)
    while (left := deadline - time.monotonic()) > 0:
        try:
            found = console.expect([prompt, _LOGIN, _PASSWORD], timeout=min(left, nudge))
        except pexpect.TIMEOUT:
            if _getty_is_there(console):
                console.sendline()  # The prompt may have been torn by a message: ask for another.
            continue
        if found == 0:
            return
        if login is None:
            follows = _after_login(console, prompt, _NO_ACCOUNT_SECONDS * time_scale)
            if follows is None:
                raise WaitTimeoutError(
                    "The guest asks for a login and there is no account to give.",
                    _NO_ACCOUNT_REMEDY,
                    console.tail(),
                )
            if follows == 0:
                return
            continue
        console.sendline(login.user if found == 1 else login.password)
    raise WaitTimeoutError(
        f"No shell came up on the guest's console within {seconds:.0f} seconds.",
        "Does it boot with console=ttyS0 and run a getty there?",
        console.tail(),
    )


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
