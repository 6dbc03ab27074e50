"""Changes to a command line, in rpm-ostree's words."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import Edits, edited, of_deployment, upgraded

NOW = ("root=UUID=r", "rw", "console=tty0", "console=ttyS0", "quiet")
ARGUMENT = st.sampled_from(["a", "a=1", "a=2", "b=x=y", "b", 'c="d e"'])
ARGUMENTS = st.lists(ARGUMENT, max_size=6)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (Edits(append=("quiet",)), (*NOW, "quiet")),
        (Edits(append_if_missing=("quiet", "new=1")), (*NOW, "new=1")),
        (Edits(delete=("quiet",)), NOW[:-1]),
        (Edits(delete=("console=tty0",)), (*NOW[:2], *NOW[3:])),
        (Edits(delete=("rw",), append=("ro",)), (NOW[0], *NOW[2:], "ro")),
        (Edits(delete_if_present=("console=ttyS0", "absent", "rw")), (NOW[0], NOW[2], "quiet")),
        (Edits(delete_if_present=("root", "console=tty9")), NOW[1:]),
        (Edits(replace=("console=tty0=tty1",)), (*NOW[:2], "console=tty1", *NOW[3:])),
        (Edits(replace=("root=UUID=new",)), ("root=UUID=new", *NOW[1:])),
        (Edits(replace=("root=UUID=r=LABEL=x",)), ("root=LABEL=x", *NOW[1:])),
        (Edits(replace=("root=UUID=r=UUID=s",)), ("root=UUID=s", *NOW[1:])),
        (Edits(replace=("quiet=1",)), (*NOW[:-1], "quiet=1")),
        (Edits(), NOW),
    ],
)
def test_edits_do_what_they_say(edits: Edits, expected: tuple[str, ...]) -> None:
    assert edited(NOW, edits) == expected


@pytest.mark.parametrize(
    ("edits", "fact"),
    [
        (Edits(delete=("absent",)), "There is no kernel argument 'absent'."),
        (Edits(delete=("quiet=1",)), "There is no kernel argument 'quiet=1'."),
        (Edits(delete=("console",)), "more than once: console=tty0, console=ttyS0"),
        (Edits(replace=("console=tty9",)), "more than once"),
        (Edits(replace=("absent=1",)), "There is no kernel argument 'absent'."),
        (Edits(replace=("quiet",)), "says no new value"),
        (Edits(replace=("quiet=0=1",)), "There is no kernel argument 'quiet=0'; there is 'quiet'."),
        (Edits(replace=("root=LABEL=x",)), "There is no kernel argument 'root=LABEL'"),
        (Edits(delete_if_present=("console",)), "more than once: console=tty0, console=ttyS0"),
        (Edits(append=("a b",)), "is not one kernel argument"),
        (Edits(append=("",)), "is not one kernel argument"),
        (Edits(append=('a="b',)), "is not one kernel argument"),
        (Edits(append=("=b",)), "has no name"),
        (Edits(delete=("ostree",)), "names the deployment"),
        (Edits(append=("ostree=/x",)), "names the deployment"),
    ],
)
def test_impossible_edits_are_refused(edits: Edits, fact: str) -> None:
    with pytest.raises(UserError) as caught:
        edited(NOW, edits)
    assert fact in caught.value.fact


@given(ARGUMENTS, ARGUMENT)
def test_what_is_appended_is_deleted_again(now: list[str], new: str) -> None:
    if new not in now:
        assert edited(edited(now, Edits(append=(new,))), Edits(delete=(new,))) == tuple(now)


def test_replacement_that_was_made_is_not_made_again() -> None:
    edits = Edits(replace=("mitigations=off=auto",))
    once = edited(["mitigations=off"], edits)
    assert once == ("mitigations=auto",)
    with pytest.raises(UserError, match="There is no kernel argument 'mitigations=off'"):
        edited(once, edits)


@given(ARGUMENTS, st.sampled_from(["a=1", "a=2", "b=x=y", 'c="d e"']))
def test_conditional_edits_are_idempotent(now: list[str], argument: str) -> None:
    for edits in (Edits(append_if_missing=(argument,)), Edits(delete_if_present=(argument,))):
        once = edited(now, edits)
        assert edited(once, edits) == once
    assert argument in edited(now, Edits(append_if_missing=(argument,)))
    assert argument not in edited(now, Edits(delete_if_present=(argument,)))


@given(st.lists(st.sampled_from(["mine", "m=1", "m=2"])), ARGUMENTS, ARGUMENTS, ARGUMENTS)
def test_local_arguments_outlive_any_upgrades(
    local: list[str], first: list[str], second: list[str], third: list[str]
) -> None:
    images = [tuple(dict.fromkeys(image)) for image in (first, second, third)]
    host = (*local, *images[0])
    for old, new in pairwise(images):
        host = upgraded(host, old, new)
        assert [each for each in host if each in local] == local
        assert set(host) == {*local, *new}


@given(ARGUMENTS)
def test_command_line_of_a_boot_entry_is_read_back(arguments: list[str]) -> None:
    assert of_deployment(" ".join((*arguments, "ostree=/ostree/boot.0/x/y/0"))) == tuple(arguments)
