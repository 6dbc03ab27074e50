"""Standard output and standard error where their reader is gone, or their disk is full.

``bootc upgrade --apply | head`` has to upgrade and reboot, and a check that fails has to say so by its status,
whoever reads what it prints.
"""

import io
import os
import select
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

from bootc_build.onhost.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Forgiving(io.FileIO):
    """An open descriptor that leads nowhere from the moment on at which its pipe has no reader any more."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or let it be."""
        try:
            return super().write(data)
        except BrokenPipeError:
            lead_nowhere(self.fileno())
            return memoryview(data).nbytes


def lead_nowhere(descriptor: int) -> None:
    """What is written to a descriptor from now on, by this program or by those that it starts, is thrown away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def forgive_closed_readers() -> None:
    """A pipe without a reader ends nothing, from now on, that only prints to it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Another one was put in its place by somebody who wants to see what is printed.
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        raw = _Forgiving(stream.fileno(), "w", closefd=False)
        unbuffered = isinstance(stream.buffer, io.RawIOBase)  # PYTHONUNBUFFERED
        forgiving = io.TextIOWrapper(
            cast("BinaryIO", raw) if unbuffered else io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=_lenient(stream.encoding) if stream.errors == "strict" else stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, forgiving)


def _lenient(encoding: str) -> str:
    """How to write what an encoding has not: names of files come out as the bytes that they are, nothing fails."""
    is_utf8 = encoding.lower().replace("-", "").replace("_", "") == "utf8"
    return "surrogateescape" if is_utf8 else "backslashreplace"


def has_reader() -> bool:
    """Whether somebody may still read standard output; true for what is no pipe."""
    poll = select.poll()
    poll.register(1, 0)
    return not any(events & select.POLLERR for _descriptor, events in poll.poll(0))


def flush_output() -> None:
    """Write out what was printed, at the end of a program.

    Raises:
        UserError: it is lost, and not because nobody wants it.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        lead_nowhere(1)  # or Python tries again at its end, complains, and exits with 120
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"Standard output cannot be written: {error.strerror}.") from error
