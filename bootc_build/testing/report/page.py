"""The report as one HTML file: style, program and data are inside, and its own policy forbids to fetch anything.

What a test says is in the page itself and can be read without its program. What a machine said is data: JSON,
compressed (gzip, base64), unpacked by the browser when somebody looks at it.
"""

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from bootc_build.testing.journal import parse_export
from bootc_build.testing.report.records import MachineEntry, ReportedRun, ReportedTest
from bootc_build.testing.report.timeline import read_cast

_LINES = 20_000
_MONITOR_BYTES = 200_000
_ORDER = ("failed", "error", "passed", "expected failure", "skipped")


def write_report(run: ReportedRun, path: Path) -> None:
    """Write the page, complete or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(render(run), encoding="utf-8")
    partial.replace(path)


def render(run: ReportedRun) -> str:
    """The page."""
    here = files("bootc_build.testing.report")
    page = Template(here.joinpath("page.html").read_text(encoding="utf-8"))
    style = here.joinpath("report.css").read_text(encoding="utf-8")
    program = here.joinpath("report.js").read_text(encoding="utf-8")
    documents = [(entry, machine_document(entry)) for entry in run.machines]
    shown = [entry.number for entry, document in documents if document["lines"]]
    return page.substitute(
        style=style,
        style_hash=_hash(style),
        program=program,
        program_hash=_hash(program),
        title=escape(_title(run)),
        began=escape(time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run.begun))),
        seconds=f"{run.seconds:.1f}",
        counts="".join(_counts(run.tests)),
        tests="\n".join(_test(number, test, run, shown) for number, test in enumerate(run.tests)),
        machines="\n".join(_blob(entry.number, document) for entry, document in documents),
    )


def machine_document(entry: MachineEntry) -> dict[str, Any]:
    """What is left of a machine, for the page's program: plain JSON, parts that are not there are empty."""
    artifacts = entry.artifacts
    lines, begun = [], 0
    cast = artifacts.path("recording")
    if cast.is_file():
        text = cast.read_text(encoding="utf-8", errors="replace").splitlines()
        begun = _timestamp(text[0] if text else "")
        read = [[round(one.seconds, 3), one.kind, one.parts] for one in read_cast(text)]
        lines = read if len(read) <= _LINES else [*read[: _LINES // 2], *read[-_LINES // 2 :]]
    picture = artifacts.path("screenshot")
    return {
        "name": artifacts.name,
        "system": artifacts.system,
        "shown": artifacts.shown,
        "begun": begun,
        "lines": lines,
        "journal": _journal(artifacts.path("journal export")),
        "monitor": _tail(artifacts.path("monitor")),
        "screenshot": base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else "",
        "files": [[what, str(path)] for what, path in artifacts.files()],
    }


def _timestamp(header: str) -> int:
    try:
        return int(json.loads(header)["timestamp"])
    except (ValueError, KeyError, TypeError):
        return 0


def _journal(export: Path) -> list[list[object]]:
    try:
        raw = gzip.decompress(export.read_bytes())
    except (OSError, EOFError):
        return []
    return [[one.seconds, one.priority, one.source, one.message] for one in parse_export(raw)]


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-_MONITOR_BYTES:]
    except OSError:
        return ""


def _hash(text: str) -> str:
    """A source of Content Security Policy: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _blob(number: int, document: dict[str, Any]) -> str:
    packed = base64.b64encode(gzip.compress(json.dumps(document).encode(), mtime=0)).decode()
    return f'<script type="application/gzip" id="machine-{number}">{packed}</script>'


def _title(run: ReportedRun) -> str:
    bad = sum(one.is_bad for one in run.tests)
    return f"{bad} of {len(run.tests)} failed" if bad else f"{len(run.tests)} passed"


def _counts(tests: Iterable[ReportedTest]) -> Iterable[str]:
    outcomes = [one.outcome for one in tests]
    for outcome in _ORDER:
        if number := outcomes.count(outcome):
            yield f'<span class="outcome {_word(outcome)}">{number} {outcome}</span> '


def _word(outcome: str) -> str:
    return outcome.replace(" ", "-")


def _test(number: int, test: ReportedTest, run: ReportedRun, shown: list[int]) -> str:
    parts = []
    for machine in test.machines:
        if machine not in shown:
            continue
        artifacts = run.machines[machine].artifacts
        parts.append(
            f'<button type="button" class="machine" data-machine="{machine}" '
            f'data-test="{escape(test.nodeid)}">console of {escape(artifacts.name)}'
            f" <small>{escape(artifacts.system)} ({escape(artifacts.shown)})</small></button>"
        )
    if test.failure:
        parts.append(f'<pre class="failure">{escape(test.failure.strip())}</pre>')
    if test.is_bad and test.rerun:
        parts.append(f'<p class="rerun">Run it again: <code>{escape(test.rerun)}</code></p>')
    for title, text in test.sections.items():
        parts.append(
            f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        )
    state = " open" if test.is_bad else ""
    return (
        f'<details class="test {_word(test.outcome)}" id="test-{number}"{state}><summary>'
        f'<span class="outcome {_word(test.outcome)}">{test.outcome}</span> '
        f'<span class="name">{escape(test.nodeid)}</span> '
        f"<time>{test.seconds:.1f} s</time></summary>{''.join(parts)}</details>"
    )
