"""SIGTERM, SIGHUP and Ctrl-C unwind the program wherever they arrive, so that all context managers clean up.

An exception from a signal handler can be lost: Python ignores what is raised in destructors and in the hooks
that run around a fork, and starting a program on a busy machine takes long enough for a signal to arrive just
then (one SIGTERM in eight was lost that way). What is lost so is raised again a moment later.
"""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_SECONDS = 0.05
_lost: list[BaseException] = []


def unwind_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into ``SystemExit(128 + number)``, and lose neither that nor Ctrl-C.

    To be called once, by a program's ``main``, in its main thread. Takes SIGALRM for itself.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _note_what_is_lost


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def _note_what_is_lost(unraisable: "UnraisableHookArgs") -> None:
    lost = unraisable.exc_value
    if isinstance(lost, SystemExit | KeyboardInterrupt):
        _lost[:] = [lost]
        # Here it would be lost again. The alarm also ends a system call that has begun meanwhile.
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    else:
        sys.__unraisablehook__(unraisable)


def _raise_again(_signum: int, _frame: FrameType | None) -> None:
    if _lost:
        raise _lost.pop()
