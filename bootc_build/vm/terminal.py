"""The user's terminal as a guest's console."""

import os
import selectors
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect

from bootc_build.vm.console import Console

ESCAPE_KEY = "Ctrl-]"
_ESCAPE = b"\x1d"
_CHUNK = 4096


def attach(console: Console, *, unread: bool = False) -> None:
    """Put a console on standard input and output until the machine ends or the user types Ctrl-].

    The terminal is as it was afterwards, whatever happens. Without a terminal on standard input what comes
    there is typed into the guest, and its end is no reason to stop.

    Args:
        console: the guest's.
        unread: show what the guest has printed and nobody has read, too.
    """
    ended, wake = socket.socketpair()
    with ended, wake, _raw_terminal(), selectors.SelectSelector() as selector:

        def show(raw: bytes) -> None:
            if raw:
                os.write(sys.stdout.fileno(), raw)
            else:
                wake.send(b"!")

        console.add_listener(show, unread=unread)
        try:
            if console.ended:  # Before the listener was there: nothing will wake this.
                return
            selector.register(ended, selectors.EVENT_READ)
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            _type_into(console, selector, ended)
        finally:
            console.remove_listener(show)


def _type_into(console: Console, selector: selectors.BaseSelector, ended: socket.socket) -> None:
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if ended in ready:
            return
        typed = os.read(sys.stdin.fileno(), _CHUNK)
        if not typed:
            selector.unregister(sys.stdin.fileno())
            continue
        try:
            console.send(typed.partition(_ESCAPE)[0])
        except pexpect.EOF:
            return
        if _ESCAPE in typed:
            return


@contextmanager
def _raw_terminal() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        # The guest may have left colours, and the cursor anywhere.
        os.write(sys.stdout.fileno(), b"\x1b[0m\r\n")
