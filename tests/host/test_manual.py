"""The manual knows every verb and every option of the command line, and no others."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import build_parser

PAGE = Path(__file__).parents[2] / "docs/man/bootc.8"
_OTHERS = {"--storage-opt", "--now", "--authfile"}  # of podman, systemctl and skopeo


def commands(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb that takes no further verb, by its whole name, with its parser."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for verb, sub in action.choices.items():
            if sub.prog.endswith(f" {verb}"):  # an alias has the name of what it stands for
                yield from commands(sub, f"{name} {verb}".strip())


def options(parser: argparse.ArgumentParser) -> set[str]:
    spelled = {option for each in parser._actions for option in each.option_strings}
    return {option for option in spelled if option.startswith("--")} - {"--help"}


@pytest.fixture(scope="module")
def page() -> str:
    """The page without its markup."""
    return re.sub(r"\\f[BIR]", "", PAGE.read_text()).replace("\\-", "-")


def test_every_verb_has_a_section(page: str) -> None:
    headings = re.findall(r"^\.SS (.*)$", page, re.MULTILINE)
    named = {verb for heading in headings for verb in heading.split(", ")}
    assert {name for name, _parser in commands(build_parser())} <= named


def test_every_option_is_explained_where_its_verb_is(page: str) -> None:
    sections = dict(re.findall(r"^\.SS (.*)\n((?:(?!\.SS|\.SH).*\n)*)", page, re.MULTILINE))
    shared = sections['"Options of all three"'] + sections["install to-filesystem"]
    for name, parser in commands(build_parser()):
        text = next(text for title, text in sections.items() if name in title.split(", "))
        if name.startswith("install to-"):
            text += shared
        missing = {each for each in options(parser) if not re.search(rf"{each}\b(?!-)", text)}
        if name == "status":
            missing -= {"--json"}  # another word for --format json, kept from the first versions
        assert not missing, name


def test_no_option_is_invented(page: str) -> None:
    known = {each for _name, parser in commands(build_parser()) for each in options(parser)}
    spoken_of = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", page))
    assert spoken_of <= known | _OTHERS
