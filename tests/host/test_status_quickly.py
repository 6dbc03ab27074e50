"""What `bootc status` does without argparse and PyYAML is what it does with them."""

import argparse
from unittest.mock import patch

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.cli import status
from bootc_build.onhost.cli.yaml_text import to_yaml

ARGUMENTS = ("--json", "--booted", "-v", "--verbose", *(f"--format={x}" for x in ("humanreadable", "yaml", "json")))  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["", "yes", "No", "null", "~", "1e5", "0x1f", "a: b", "a:", "- a", "#", "e43", "x\u2028y", "1:30",
     "2026-01-02T03:04:05Z", "sha256:" + "e" * 64, "quay.io/a/b:1", " a", "a ", "*a", "&a", "!a", "=", "<<"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_document_is_read_by_yaml_as_it_was(document: object) -> None:
    assert yaml.safe_load(to_yaml(document)) == document


@given(st.lists(st.sampled_from(ARGUMENTS), max_size=4))
def test_plain_arguments_mean_what_argparse_takes_them_for(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    status.add_arguments(parser)
    with patch.object(status, "show") as shown:
        status.run(parser.parse_args(arguments))
    shown.assert_called_once_with(status.plain_options(arguments))


def test_other_arguments_are_left_to_argparse() -> None:
    for argument in ("--help", "--format", "--format-version=1", "--jso", "x", "--"):
        assert status.plain_options(["--booted", argument]) is None


def test_version_0_is_version_1(capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for version in (0, 1):
        assert status.show(status.Options("json", version)) == 0
        documents.append(capsys.readouterr().out)
    assert documents[0] == documents[1] != ""
