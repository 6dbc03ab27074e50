"""The manual page says of each verb what the verb takes, at its place."""

import argparse
import re
from pathlib import Path

import pytest

from bootc_build.cli.main import VERBS, build_parser

PAGE = Path(__file__).parents[2] / "docs/man/bootc-build.1"
# Explained once, for all.
COMMON = {"--help", "--verbose", "--quiet"}
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
# Flags of image are mostly buildah's own, which its manual explains.
OWN = [verb for verb in VERBS if verb != "image"]


@pytest.fixture(scope="module")
def page() -> str:
    return re.sub(r"\\f[A-Z]|\\(?=-)", "", PAGE.read_text())


def options(verb: str) -> list[set[str]]:
    """The options of a verb, each with its short and long names; those of its own verbs too."""
    verbs = next(
        action
        for action in build_parser(verb)._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    found = []
    parsers = [verbs.choices[verb]]
    for parser in parsers:
        for action in parser._actions:
            found.append(set(action.option_strings))
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    return [names for names in found if names and not names & COMMON]


def synopsis(page: str, verb: str) -> str:
    pieces = re.findall(
        rf"^\.B bootc-build {verb}\b.*?(?=^\.br$|^\.SH)", page, re.MULTILINE | re.DOTALL
    )
    assert pieces, verb
    return "".join(pieces)


def section(page: str, verb: str) -> str:
    pieces = re.findall(rf"^\.SS {verb}\b.*?(?=^\.S[SH])", page, re.MULTILINE | re.DOTALL)
    assert pieces, verb
    return "".join(pieces)


@pytest.mark.parametrize("verb", OWN)
def test_every_option_is_explained_with_its_verb(page: str, verb: str) -> None:
    told = set(_OPTION.findall(synopsis(page, verb) + section(page, verb)))
    assert [names for names in options(verb) if not names & told] == []


@pytest.mark.parametrize("verb", OWN)
def test_nothing_else_is_explained_there(page: str, verb: str) -> None:
    headings = re.findall(r"^\.TP\n(.*)$", section(page, verb), re.MULTILINE)
    told = set(_OPTION.findall(synopsis(page, verb) + "\n".join(headings)))
    known = COMMON.union(*options(verb))
    assert {name for name in told if name.startswith("--")} - known == set()
