"""The journal export format."""

from hypothesis import given
from hypothesis import strategies as st

from bootc_build.testing.journal import JournalLine, format_journal, parse_export

_TEXT_ENTRY = (
    b"__MONOTONIC_TIMESTAMP=1500000\nPRIORITY=3\nSYSLOG_IDENTIFIER=sshd\n_PID=7\nMESSAGE=no key\n\n"
)


def _entry(message: bytes) -> bytes:
    size = len(message).to_bytes(8, "little")
    return b"__MONOTONIC_TIMESTAMP=2\n_COMM=x\nMESSAGE\n" + size + message + b"\n\n"


def test_an_entry_tells_when_who_and_what() -> None:
    assert list(parse_export(_TEXT_ENTRY)) == [JournalLine(1.5, 3, "sshd[7]", "no key")]
    assert format_journal(parse_export(_TEXT_ENTRY)) == "[    1.500000] sshd[7]: no key\n"


@given(st.lists(st.binary(), max_size=4))
def test_any_message_comes_out_as_it_went_in(messages: list[bytes]) -> None:
    found = list(parse_export(b"".join(map(_entry, messages)) + _TEXT_ENTRY))
    assert [one.message for one in found] == [
        *(raw.decode(errors="backslashreplace") for raw in messages),
        "no key",
    ]


@given(st.integers(0, 200), st.binary(max_size=40))
def test_a_torn_export_gives_what_is_whole(cut: int, noise: bytes) -> None:
    whole = _TEXT_ENTRY + _entry(b"a\nb")
    found = list(parse_export(whole[:cut] + noise))
    if cut >= len(_TEXT_ENTRY):
        assert found[0].message == "no key"
