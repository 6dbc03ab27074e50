"""Kernel arguments of images, and what an upgrade does to those of the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import (
    image_kargs,
    parse_kargs_file,
    split_command_line,
    upgraded,
    without,
)

ARGUMENTS = st.lists(st.sampled_from(["a", "b=1", "b=2", "c=x", "d"]), max_size=5)


def test_files_are_read_in_the_order_of_their_names() -> None:
    files = {"20-b.toml": 'kargs = ["second"]', "10-a.toml": 'kargs = ["first", "x=1 y=2"]'}
    assert image_kargs({**files, "README": "not toml"}) == ("first", "x=1", "y=2", "second")


def test_file_for_another_architecture_gives_nothing() -> None:
    text = 'kargs = ["a"]\nmatch-architectures = ["aarch64"]\n'
    assert parse_kargs_file(text, "f", "x86_64") == ()
    assert parse_kargs_file(text, "f", "aarch64") == ("a",)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("kargs = [", "not valid TOML"),
        ('kargs = ["a"]\nkarg = ["b"]', "unknown key 'karg'"),
        ("match-architectures = []", "no key 'kargs'"),
        ('kargs = "a"', "not a list of strings"),
        ("kargs = [1]", "not a list of strings"),
    ],
)
def test_wrong_file_is_named_with_what_is_wrong(text: str, fact: str) -> None:
    with pytest.raises(UserError) as caught:
        image_kargs({"10-x.toml": text})
    assert "/usr/lib/bootc/kargs.d/10-x.toml" in caught.value.fact
    assert fact in caught.value.fact


def test_double_quotes_keep_an_argument_together() -> None:
    line = 'root=UUID=x dyndbg="file a +p"  quiet\n'
    assert split_command_line(line) == ("root=UUID=x", 'dyndbg="file a +p"', "quiet")


def test_upgrade_applies_only_what_differs_between_the_images() -> None:
    current = ("root=r", "rw", "old=1", "both=1", "mine=1")
    assert upgraded(current, ("old=1", "both=1"), ("both=1", "new=1")) == (
        "root=r", "rw", "both=1", "mine=1", "new=1",
    )  # fmt: skip


def test_image_that_drops_its_arguments_takes_them_from_the_host() -> None:
    assert upgraded(("root=r", "quiet", "mine"), ("quiet",), ()) == ("root=r", "mine")


def test_argument_that_the_administrator_removed_stays_removed() -> None:
    assert upgraded(("root=r",), ("quiet",), ("quiet",)) == ("root=r",)


@given(ARGUMENTS, ARGUMENTS)
def test_upgrade_to_the_same_arguments_changes_nothing(host: list[str], image: list[str]) -> None:
    assert upgraded(host, image, image) == tuple(host)


def test_deletion_by_name_or_by_name_and_value() -> None:
    arguments = ("console=tty0", "console=ttyS0", "quiet")
    assert without(arguments, ["console"]) == ("quiet",)
    assert without(arguments, ["console=tty0", "quiet"]) == ("console=ttyS0",)
