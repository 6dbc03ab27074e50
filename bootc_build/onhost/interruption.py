"""SIGTERM, SIGHUP and Ctrl-C unwind the program wherever they arrive, so that all context managers clean up.

An exception from a signal handler can be lost: Python ignores what is raised in destructors and in the hooks
that run around a fork, and starting a program on a busy machine takes long enough for a signal to arrive just
then (one SIGTERM in eight was lost that way). What is lost so is raised again a moment later.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_SECONDS = 0.05
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_lost: list[BaseException] = []
_Handler = Callable[[int, FrameType | None], object] | int | None


def unwind_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into ``SystemExit(128 + number)``, and lose neither that nor Ctrl-C.

    To be called once, by a program's ``main``, in its main thread. Takes SIGALRM for itself.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _note_what_is_lost


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals that stop the program wait until the end of the block, which has to be short."""
    if threading.current_thread() is not threading.main_thread():
        # Handlers run in the main thread alone: nothing is raised here.
        yield
        return
    arrived: list[int] = []
    handlers: dict[signal.Signals, _Handler] = {}
    # Not by the mask alone, which is this thread's: the kernel gives a signal to any thread that takes it, and Python
    # then runs the handler in this one.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        for number in _STOPPING:
            handlers[number] = signal.getsignal(number)
            signal.signal(number, lambda arriving, _frame: arrived.append(arriving))
        yield
    finally:
        for held, handler in handlers.items():
            # None is one that Python knows nothing of.
            if handler is not None:
                signal.signal(held, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for late in arrived:
            signal.raise_signal(late)


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
