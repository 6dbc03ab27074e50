"""The journal export format: https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-export-format."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LENGTH_BYTES = 8
_NOTICE = 5


@dataclass(frozen=True)
class JournalLine:
    """One entry of a journal.

    Args:
        seconds: since the boot began.
        priority: 0 (emergency) to 7 (debug).
        source: who said it, such as "kernel" or "sshd[123]".
        message: what; may have several lines.
    """

    seconds: float
    priority: int
    source: str
    message: str


def parse_export(raw: bytes) -> Iterator[JournalLine]:
    """The entries of an export; one that is cut off or has no message is left out."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        end = raw.find(b"\n", at)
        if end < 0:
            return
        line, at = raw[at:end], end + 1
        name, is_text, value = line.partition(b"=")
        if not line:
            if "MESSAGE" in fields:
                yield _line(fields)
            fields = {}
        elif is_text:
            fields[name.decode(errors="replace")] = value
        else:
            size = int.from_bytes(raw[at : at + _LENGTH_BYTES], "little")
            at += _LENGTH_BYTES
            fields[name.decode(errors="replace")] = raw[at : at + size]
            at += size + 1
    if "MESSAGE" in fields:
        yield _line(fields)


def format_journal(lines: Iterable[JournalLine]) -> str:
    """The entries as text, one a line, in the manner of `journalctl -o short-monotonic`."""
    return "".join(f"[{one.seconds:12.6f}] {one.source}: {one.message}\n" for one in lines)


def _line(fields: dict[str, bytes]) -> JournalLine:
    def text(name: str, default: str = "") -> str:
        return fields.get(name, default.encode()).decode(errors="backslashreplace")

    source = text("SYSLOG_IDENTIFIER") or text("_COMM") or "?"
    process = text("SYSLOG_PID") or text("_PID")
    return JournalLine(
        seconds=_number(text("__MONOTONIC_TIMESTAMP"), 0) / 1e6,
        priority=_number(text("PRIORITY"), _NOTICE + 1),
        source=f"{source}[{process}]" if process else source,
        message=text("MESSAGE"),
    )


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default
