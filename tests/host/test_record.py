"""A record behaves as a frozen dataclass of the same fields."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.record import record, replace


@record
class Ours:
    name: str
    size: int = 1


@dataclass(frozen=True)
class Theirs:
    name: str
    size: int = 1


@record
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@given(st.text(), st.integers(), st.text(), st.integers())
def test_records_are_compared_and_hashed_by_their_fields(a: str, b: int, c: str, d: int) -> None:
    assert (Ours(a, b) == Ours(c, d)) == (Theirs(a, b) == Theirs(c, d))
    assert hash(Ours(a, b)) == hash(Ours(name=a, size=b))
    assert repr(Ours(a, b)) == repr(Theirs(a, b)).replace("Theirs", "Ours")
    assert Ours(a) == Ours(a, 1)
    other: object = Theirs(a)
    assert Ours(a) != other


@pytest.mark.parametrize("wrong", [(), ("a", 1, 2)])
def test_wrong_arguments_are_refused(wrong: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        Ours(*wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"name": "a", "colour": "red"}, {"size": 2}])
def test_wrong_names_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Ours(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Ours("a", name="b")  # type: ignore[misc]


def test_a_record_cannot_be_changed_but_replaced() -> None:
    made = Ours("a")
    with pytest.raises(AttributeError):
        made.name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del made.name
    assert replace(made, size=2) == dataclasses.replace(made, size=2) == Ours("a", 2)
    assert dataclasses.asdict(made) == {"name": "a", "size": 1}
    assert dataclasses.is_dataclass(made)


def test_what_a_record_checks_is_checked_in_a_copy_too() -> None:
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)
    with pytest.raises(ValueError, match="negative"):
        replace(Checked(1), size=-1)


def test_records_match_patterns() -> None:
    match Ours("a", 3):
        case Ours(name, 3):
            assert name == "a"
        case _:
            pytest.fail("no match")


def test_making_one_loads_no_dataclasses() -> None:
    code = "import sys, bootc_build.onhost.host.status; print('dataclasses' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
