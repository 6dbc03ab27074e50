"""Consoles as lines with times, for the report."""

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bootc_build.testing.report.timeline import CONSOLE, FAILURE, HOST, TEST, TimedLine, read_cast

_HEADER = '{"version": 2}'


def _read(*events: tuple[float, str, str]) -> list[TimedLine]:
    return list(read_cast([_HEADER, *map(json.dumps, events)]))


def _texts(lines: Sequence[TimedLine]) -> list[str]:
    return [line.text for line in lines]


def test_a_line_has_the_time_of_its_first_character() -> None:
    lines = _read((1.0, "o", "one\r\ntw"), (2.5, "o", "o\r\n"), (3.0, "o", "\r\nthree"))
    assert [(line.seconds, line.text) for line in lines] == [
        (1.0, "one"),
        (1.0, "two"),
        (3.0, ""),
        (3.0, "three"),
    ]
    assert {line.kind for line in lines} == {CONSOLE}


def test_what_the_host_does_stands_between_the_lines() -> None:
    lines = _read(
        (1.0, "o", "login: "),
        (2.0, "m", "test: a.py::test_b"),
        (2.1, "m", "run: true"),
        (3.0, "m", "failed: a.py::test_b: no"),
        (3.1, "m", "trouble (panic): Kernel panic"),
    )
    assert [line.kind for line in lines] == [CONSOLE, TEST, HOST, FAILURE, FAILURE]
    assert lines[0].text == "login:"


def test_colours_stay_and_end() -> None:
    [line] = _read((1.0, "o", "[\x1b[0;1;31mFAILED\x1b[0m] \x1b[44mx\x1b[49my\x1b[91mz\r\n"))
    assert line.parts == (
        *(("[", ""), ("FAILED", "bold c1"), ("] ", "")),
        *(("x", "b4"), ("y", ""), ("z", "c1")),
    )


def test_a_sequence_may_be_torn_anywhere() -> None:
    text = "a\x1b[1;32mgreen\x1b[0m \x1b]0;title\x07b\x1b(Bc\r\n"
    whole = _read((1.0, "o", text))
    assert _texts(whole) == ["agreen bc"]
    for at in range(1, len(text)):
        assert _read((1.0, "o", text[:at]), (1.0, "o", text[at:])) == whole


def test_overwriting_and_erasing_work_within_a_line() -> None:
    lines = _read(
        (1.0, "o", "10%\r20%\r\nabc\b\bX\x1b[K\r\nkeep\rgone\x1b[2Kend\r\na\tb\x1b[20Gc\n")
    )
    assert _texts(lines) == ["20%", "aX", "    end", "a       b          c"]


def test_a_cursor_that_goes_to_another_row_ends_the_line() -> None:
    lines = _read((1.0, "o", "\x1b[2J\x1b[1;1Htop\x1b[1;6Hright\x1b[2;3Hbelow\x1b[H"))
    assert _texts(lines) == ["top  right", "  below"]


def test_data_of_the_framed_shell_is_left_out() -> None:
    frames = (
        "\r\n@0123456789ab:h:0:-:0:-:0:h@\r\n1@0123456789ab:o:aGk=\r\n\r\n@0123456789ab:end@\r\n"
    )
    assert _texts(_read((1.0, "o", f"before\r\n{frames}after\r\n"))) == ["before", "", "after"]


def test_what_cannot_be_read_is_left_out() -> None:
    lines = read_cast([_HEADER, '[1.0, "o", "one\\n"]', "[2.0]", "7", '[3.0, "o", "tw'])
    assert _texts(list(lines)) == ["one"]
    assert list(read_cast([])) == []


_PIECES = st.lists(st.text(alphabet="ab \r\n\b\t\x1b[];0123mHKJGC\x07é", max_size=20), max_size=20)


@given(_PIECES)
def test_any_output_gives_lines_in_the_order_of_their_times(pieces: list[str]) -> None:
    lines = _read(*((float(at), "o", piece) for at, piece in enumerate(pieces)))
    times = [line.seconds for line in lines]
    assert times == sorted(times)
    assert not any(set(line.text) & set("\r\n\b\x1b") for line in lines)


@given(st.lists(st.text(alphabet="ab c", min_size=1).filter(str.strip), max_size=20))
def test_plain_lines_come_out_as_they_went_in(texts: list[str]) -> None:
    lines = _read((1.0, "o", "".join(f"{text}\r\n" for text in texts)))
    assert _texts(lines) == [text.rstrip() for text in texts]
