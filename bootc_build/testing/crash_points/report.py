"""What an exploration found, for people and for programs that read JUnit."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from bootc_build.testing.crash_points.booting import BootResult
from bootc_build.testing.crash_points.explore import Exploration, State
from bootc_build.testing.crash_points.points import Kind

_HEADER = (
    "transaction",
    "crash points",
    *Kind,
    "contents",
    "states",
    "booted",
    "unbootable",
    "wrong",
)


def verdict(found: Sequence[Exploration], booted: Sequence[BootResult] = ()) -> str:
    """One line: how many crash points, how many distinct states, how many of them unbootable."""
    points = sum(one.points for one in found)
    states = sum(len(one.states) for one in found)
    unbootable = sum(one.unbootable for one in found) + sum(not one.good for one in booted)
    others = sum(one.violations for one in found)
    line = f"{points} crash points, {states} distinct states, {unbootable} unbootable"
    line += f", {others} otherwise wrong" if others else ""
    return f"{line}; {len(booted)} of the states booted"


def passed(found: Sequence[Exploration], booted: Sequence[BootResult] = ()) -> bool:
    """Whether nothing is wrong with any state."""
    return not any(one.unbootable or one.violations for one in found) and all(
        one.good for one in booted
    )


def table(found: Sequence[Exploration], booted: Sequence[BootResult] = ()) -> str:
    """A table in Markdown, a line for each transaction, and below it what is wrong."""
    rows = [_HEADER, tuple("---" for _ in _HEADER)]
    rows += [_row(one, booted) for one in found]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += [f"\n{verdict(found, booted)}"]
    lines += [
        f"\n{one.transaction}: {state.point.name} ({one.counts[state.signature]} points): {problem}"
        for one in found
        for state in one.states
        for problem in _problems(state)
    ]
    lines += [f"\n{one.transaction}: {one.point}: {one.problem}" for one in booted if not one.good]
    return "\n".join(lines) + "\n"


def _row(one: Exploration, booted: Sequence[BootResult]) -> tuple[str, ...]:
    mine = [result for result in booted if result.transaction == one.transaction]
    numbers = (
        one.points,
        *(one.kinds.get(kind, 0) for kind in Kind),
        one.contents,
        len(one.states),
        len(mine),
        one.unbootable + sum(not result.good for result in mine),
        one.violations,
    )
    return (one.transaction, *map(str, numbers))


def _problems(state: State) -> tuple[str, ...]:
    return (*state.verdict.unbootable, *state.verdict.violations)


def write_junit(
    path: Path, found: Sequence[Exploration], booted: Sequence[BootResult] = ()
) -> None:
    """A suite for each transaction, a case for each distinct state; complete or not there."""
    root = ET.Element("testsuites")
    for one in found:
        _suite(root, one, [result for result in booted if result.transaction == one.transaction])
    partial = path.with_name(f".{path.name}.partial")
    ET.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)
    partial.replace(path)


def _suite(root: ET.Element, one: Exploration, booted: Sequence[BootResult]) -> None:
    results = {result.signature: result for result in booted}
    suite = ET.SubElement(root, "testsuite", name=f"crash points: {one.transaction}")
    properties = ET.SubElement(suite, "properties")
    numbers = {
        "points": one.points,
        "contents": one.contents,
        "states": len(one.states),
        "booted": len(booted),
        "seed": one.seed,
        **{f"points.{kind}": count for kind, count in one.kinds.items()},
    }
    for name, value in numbers.items():
        ET.SubElement(properties, "property", name=name, value=str(value))
    failures = 0
    for state in one.states:
        result = results.get(state.signature)
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"crash_points.{one.transaction.replace(' ', '_')}",
            name=f"{state.point.name} boots {state.verdict.boots}",
            time=f"{result.seconds if result else 0:.1f}",
        )
        problems = list(_problems(state))
        if result is not None and not result.good:
            problems.append(f"booted: {result.problem}")
        if problems:
            failures += 1
            ET.SubElement(case, "failure", message=problems[0]).text = "\n".join(problems)
        said = ET.SubElement(case, "system-out")
        how = "booted" if result is not None else "looked at, not booted"
        said.text = f"{one.counts[state.signature]} crash points lead to this state; {how}"
    suite.set("tests", str(len(one.states)))
    suite.set("failures", str(failures))
    suite.set("time", f"{one.seconds:.1f}")
