"""What one machine does, in files, written while it happens: its console as an asciicast, its monitor as JSON.

The asciicast (version 2, https://docs.asciinema.org/manual/asciicast/v2/) has every byte that the guest
printed, each piece with its time, as "o" events, and what the host did ("run: …", "power cut") as "m"
events, so that any asciicast player shows it. The monitor's file has one JSON object a line: what was said,
and when. Both begin at the same moment, and go on through all runs of the machine.
"""

import codecs
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

_COLUMNS, _ROWS = 80, 25


class MachineRecord:
    """The two files of one machine; a context manager. What is said after its end is lost, not an error.

    Nothing is held in memory, and what is written is at once in the file.

    Args:
        cast: the asciicast; made anew.
        monitor: the monitor's exchange; made anew.
        title: of the asciicast.
    """

    def __init__(self, cast: Path, monitor: Path, *, title: str) -> None:
        self.title = title
        self.cast_path = cast
        self.monitor_path = monitor
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        # Line-buffered: a process that is killed leaves all that it saw.
        self._cast = cast.open("w", encoding="utf-8", buffering=1)
        self._monitor = monitor.open("w", encoding="utf-8", buffering=1)
        header = {
            "version": 2,
            "width": _COLUMNS,
            "height": _ROWS,
            "timestamp": int(time.time()),
            "title": title,
        }
        _write(self._cast, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            for file in (self._cast, self._monitor):
                with suppress(OSError):
                    file.close()

    @property
    def seconds(self) -> float:
        """The time of now in these files."""
        return time.monotonic() - self._begun

    def console(self, raw: bytes) -> None:
        """The guest printed these bytes; text that is torn between two pieces is put together."""
        with self._lock:
            if text := self._decoder.decode(raw):
                self._event("o", text)

    def mark(self, text: str) -> None:
        """The host did this."""
        with self._lock:
            self._event("m", text)

    def monitor(self, kind: str, content: object) -> None:
        """Something passed the monitor.

        Args:
            kind: "command", "answer", "refusal" or "event".
            content: its JSON; what is none is written as text.
        """
        with self._lock:
            _write(self._monitor, {"seconds": round(self.seconds, 6), kind: content})

    def _event(self, code: str, text: str) -> None:
        _write(self._cast, [round(self.seconds, 6), code, text])


def _write(file: TextIO, content: object) -> None:
    # A full disk costs the record, not the machine that is recorded.
    with suppress(OSError):
        if not file.closed:
            file.write(json.dumps(content, default=str) + "\n")
