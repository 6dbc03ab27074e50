from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bootc_build.cli.main import main
from bootc_build.testing.crash_points.booting import BootResult, choose
from bootc_build.testing.crash_points.explore import Exploration, State
from bootc_build.testing.crash_points.oracle import Verdict
from bootc_build.testing.crash_points.points import CrashPoint, Kind
from bootc_build.testing.crash_points.report import passed, table, verdict, write_junit

_OLD = State(CrashPoint(Kind.FLUSH, 3), "a", Verdict("old", commit="c1"))
_NEW = State(CrashPoint(Kind.TORN, 9), "b", Verdict("new", commit="c2"))
_BROKEN = State(CrashPoint(Kind.FLUSH, 7), "c", Verdict("nothing", ("GRUB finds no menu",)))


def _found(*states: State) -> Exploration:
    counts = {state.signature: 5 for state in states}
    kinds = {Kind.FLUSH: 5 * len(states)}
    return Exploration("upgrade", 1, 5 * len(states), 4, kinds, list(states), 1.0, counts)


def test_all_is_well() -> None:
    found = [_found(_OLD, _NEW)]
    booted = [BootResult("upgrade", "flush-3", "a", "", 40.0)]
    assert passed(found, booted)
    assert verdict(found, booted) == (
        "10 crash points, 2 distinct states, 0 unbootable; 1 of the states booted"
    )
    assert "| upgrade | 10 | 10 | 0 | 0 | 0 | 0 | 4 | 2 | 1 | 0 | 0 |" in table(found, booted)


def test_an_unbootable_state_is_counted_and_told() -> None:
    found = [_found(_OLD, _BROKEN)]
    assert not passed(found)
    assert "5 unbootable" in verdict(found)
    assert "flush-7 (5 points): GRUB finds no menu" in table(found)


def test_a_state_that_does_not_boot_as_predicted_is_counted() -> None:
    booted = [BootResult("upgrade", "flush-3", "a", "c2 booted, c1 was expected", 40.0)]
    assert not passed([_found(_OLD)], booted)
    assert "1 unbootable" in verdict([_found(_OLD)], booted)
    assert "c1 was expected" in table([_found(_OLD)], booted)


def test_junit_has_a_case_for_each_state(tmp_path: Path) -> None:
    booted = [BootResult("upgrade", "torn-9", "b", "", 40.0)]
    write_junit(tmp_path / "out.xml", [_found(_OLD, _NEW, _BROKEN)], booted)
    [suite] = ET.parse(tmp_path / "out.xml").getroot()  # noqa: S314 - just written
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failures = {
        case.get("name"): [one.get("message") for one in case.iter("failure")]
        for case in suite.iter("testcase")
    }
    assert failures["flush-7 boots nothing"] == ["GRUB finds no menu"]
    assert failures["flush-3 boots old"] == []
    said = [case.findtext("system-out") for case in suite.iter("testcase")]
    assert [str(text).rpartition("; ")[2] for text in said] == [
        "looked at, not booted",
        "booted",
        "looked at, not booted",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "out.xml"]


@pytest.mark.parametrize(
    ("limit", "chosen"), [(0, ""), (1, "e"), (2, "ae"), (3, "ace"), (9, "abcde")]
)
def test_states_to_boot_are_spread(limit: int, chosen: str) -> None:
    states = [State(CrashPoint(Kind.FLUSH, 0), name, Verdict("old")) for name in "abcde"]
    assert "".join(state.signature for state in choose(states, limit)) == chosen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--samples", "3"], "--samples goes with --crash-points"),
        (["--crash-points", "--", "-k", "x"], "takes no FILEs"),
        (["--crash-points", "--boots", "-1"], "numbers from 0"),
        (["--crash-points", "--recording", "/nowhere"], "has no recording"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "os:1", *arguments]) in {1, 2}
    assert said in capsys.readouterr().err
