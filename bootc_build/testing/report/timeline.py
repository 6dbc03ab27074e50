"""A machine's asciicast as lines with times: what a person reads of its console, and what the host did meanwhile.

A serial console is a log with some colour and, in boot loaders and editors, some drawing. So this is no
terminal: a line is what stands in it when the cursor leaves it. Colours stay, erasing and overwriting work
within a line, and wherever the cursor is sent to another row a line ends. Lines of the framed shell
(`bootc_build.vm.shell`) carry data and are left out.

Sources: asciicast version 2 (https://docs.asciinema.org/manual/asciicast/v2/), ECMA-48 for the sequences.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bootc_build.vm.console import is_frame

CONSOLE, HOST, FAILURE, TEST = "console", "host", "failure", "test"
_WIDEST = 2000
_SEQUENCE = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[()][0-~]|\x1b[^\[\]()]"
    r"|(?P<control>[\x00-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)
# The beginning of a sequence whose end is in the next piece.
_TORN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[()])?$")
_TAB = 8
_COLOURS = 8


@dataclass(frozen=True)
class TimedLine:
    """A line, and when it began.

    Args:
        seconds: since the recording began.
        kind: CONSOLE; or what the host did: HOST, TEST for the beginning of a test, FAILURE for its failure or
            trouble that was seen.
        parts: texts, each with its style: words such as "bold" and "c1" (foreground), "b4" (background).
    """

    seconds: float
    kind: str
    parts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """Without styles."""
        return "".join(text for text, _ in self.parts)


def read_cast(lines: Iterable[str]) -> Iterator[TimedLine]:
    """The lines of an asciicast, in the order of their times; what cannot be read of it is left out.

    Args:
        lines: of the file, its header first.
    """
    screen = _Screen()
    seconds = 0.0
    for event in _events(lines):
        seconds, code, text = event
        if code == "o":
            yield from screen.take(seconds, text)
        elif code == "m":
            # The host acts on what stands there, so an unfinished line comes first.
            yield from screen.flush()
            yield TimedLine(seconds, _kind(text), ((text, ""),))
    yield from screen.flush()


def _events(lines: Iterable[str]) -> Iterator[tuple[float, str, str]]:
    for line in lines:
        try:
            event: Any = json.loads(line)
            if isinstance(event, list):
                seconds, code, text = event
                yield float(seconds), str(code), str(text)
        except (ValueError, TypeError):
            continue  # The last line of a process that was killed.


def _kind(mark: str) -> str:
    if mark.startswith(("failed: ", "trouble ")):
        return FAILURE
    return TEST if mark.startswith("test: ") else HOST


@dataclass
class _Screen:
    """The one line in which the cursor is."""

    cells: list[tuple[str, str]] = field(default_factory=list)
    column: int = 0
    row: str = ""
    begun: float | None = None
    torn: str = ""
    last_empty: bool = True
    bold: bool = False
    foreground: str = ""
    background: str = ""

    def take(self, seconds: float, text: str) -> Iterator[TimedLine]:
        """What was printed; the lines that it finishes."""
        text = self.torn + text
        found = _TORN.search(text)
        self.torn = found[0] if found else ""
        for token in _SEQUENCE.finditer(text, 0, found.start() if found else len(text)):
            if words := token["text"]:
                self._write(seconds, words)
            elif token["final"]:
                yield from self._obey(token["parameters"], token["final"])
            elif token["control"] == "\n":
                yield from self.flush(seconds)
            elif token["control"]:
                self._move(token["control"])

    def flush(self, ended: float | None = None) -> Iterator[TimedLine]:
        """The line as it stands, and a new one; `ended` when it is one even if nothing stands in it."""
        text = "".join(cell for cell, _ in self.cells).rstrip()
        begun = self.begun if self.begun is not None else ended
        is_data = is_frame(text.encode())
        # Data comes with empty lines around it; one between two lines of words is enough.
        if begun is not None and not is_data and (text or not self.last_empty):
            cells = self.cells[: len(text)]
            parts = [
                ("".join(cell for cell, _ in group), style)
                for style, group in groupby(cells, key=lambda cell: cell[1])
            ]
            yield TimedLine(begun, CONSOLE, tuple(parts))
            self.last_empty = not text
        self.cells, self.column, self.begun = [], 0, None

    def _write(self, seconds: float, text: str) -> None:
        if self.begun is None:
            self.begun = seconds
        style = " ".join(
            filter(None, ("bold" if self.bold else "", self.foreground, self.background))
        )
        for character in text[: max(0, _WIDEST - self.column)]:
            if self.column < len(self.cells):
                self.cells[self.column] = (character, style)
            else:
                gap = self.column - len(self.cells)
                self.cells += [(" ", "")] * gap + [(character, style)]
            self.column += 1

    def _move(self, control: str) -> None:
        if control == "\r":
            self.column = 0
        elif control == "\b":
            self.column = max(0, self.column - 1)
        elif control == "\t":
            self.column = min(_WIDEST, (self.column // _TAB + 1) * _TAB)

    def _obey(self, parameters: str, final: str) -> Iterator[TimedLine]:
        numbers = [int(one) if one.isdecimal() else 0 for one in parameters.split(";")]
        first = numbers[0]
        if final == "m":
            self._paint(numbers)
        elif final in "Hf":
            column = numbers[1] if len(numbers) > 1 else 1
            if str(first) != self.row:
                yield from self.flush()
                self.row = str(first)
            self._to(column - 1)
        elif final in "ABEFJ":
            yield from self.flush()
        elif final == "G":
            self._to(first - 1)
        elif final == "C":
            self._to(self.column + max(1, first))
        elif final == "D":
            self._to(self.column - max(1, first))
        elif final == "K":
            if first == 0:
                del self.cells[self.column :]
            else:
                self.cells.clear()

    def _to(self, column: int) -> None:
        self.column = min(max(0, column), _WIDEST)

    def _paint(self, numbers: list[int]) -> None:
        """Select Graphic Rendition; the sixteen colours of a console."""
        for number in numbers:
            ten, colour = divmod(number, 10)
            if number == 0:
                self.bold, self.foreground, self.background = False, "", ""
            elif number in {1, 22}:
                self.bold = number == 1
            elif ten in {3, 9} and colour < _COLOURS:
                self.foreground = f"c{colour}"
            elif ten in {4, 10} and colour < _COLOURS:
                self.background = f"b{colour}"
            elif number == 39:  # noqa: PLR2004 - the default foreground
                self.foreground = ""
            elif number == 49:  # noqa: PLR2004 - the default background
                self.background = ""
