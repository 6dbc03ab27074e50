"""What the command line of ``image`` and ``lint`` makes of its arguments; nothing is built."""

import json
from pathlib import Path

import pytest

from bootc_build.cli.image import request_of
from bootc_build.cli.main import build_parser, main
from bootc_build.image.derived import BuildRequest
from bootc_build.onhost.errors import UsageError

DEFAULTS = ("--layers", "--pull=false")


def asked(*arguments: str) -> BuildRequest:
    args, unknown = build_parser("image").parse_known_args(["image", *arguments])
    args.passed_on = unknown
    return request_of(args)


def test_the_usual_command() -> None:
    request = asked("-f", "Containerfile.example", "--build-arg", "VERSION=1", "-t", "os:v1", ".")
    assert request == BuildRequest(
        tags=("os:v1",),
        containerfiles=("Containerfile.example",),
        context=".",
        flags=(*DEFAULTS, "--build-arg=VERSION=1"),
    )


def test_flags_keep_their_order_and_their_values() -> None:
    request = asked(
        *("--secret", "id=a,src=b", "-t", "a:1", "-t", "b:1", "--platform", "linux/amd64"),
        *("--label=x=y z", "--volume", "/a:/b:ro", "ctx", "--build-arg", "--odd"[2:]),
    )
    assert request.tags == ("a:1", "b:1")
    assert request.context == "ctx"
    assert request.flags[2:] == (
        "--secret=id=a,src=b",
        "--platform=linux/amd64",
        "--label=x=y z",
        "--volume=/a:/b:ro",
        "--build-arg=odd",
    )


def test_flags_that_stand_alone_and_unknown_ones_reach_buildah() -> None:
    request = asked("--no-cache", "-t", "a:1", ".", "--squash", "--pull=always", "--", "--new=1")
    assert request.context == "."
    assert request.flags == (*DEFAULTS, "--no-cache", "--squash", "--pull=always", "--new=1")


def test_a_flag_is_not_taken_for_an_abbreviation_of_another() -> None:
    assert asked("--os", "linux", "--rm", ".").flags == (*DEFAULTS, "--os=linux", "--rm")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((".", "other"), "'other' is one argument too many"),
        (("--manifest=m", "."), "does not take --manifest"),
        (("--output=type=tar", "."), "does not take --output"),
        (("--platform", "linux/amd64,linux/arm64", "."), "one platform at a time"),
        (("--platform=linux/amd64", "--platform=linux/arm64"), "one platform at a time"),
    ],
)
def test_what_makes_no_single_image_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(*arguments)


def test_an_argument_that_no_other_verb_knows_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lint", "--no-such-flag", "os:v1"])
    assert ended.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_a_missing_containerfile_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "-t", "os:v1", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"There is no Containerfile in '{tmp_path}'." in error
    assert "Name it with -f" in error


def test_lint_of_an_absent_image_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "bootc-build-test/nowhere:v2"]) == 1
    assert "'bootc-build-test/nowhere:v2' is not in local storage" in capsys.readouterr().err


def test_lint_without_an_image_or_with_an_unknown_name_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["lint"]) == 2
    assert main(["lint", "--skip", "nope", "os:v1"]) == 2
    assert "There is no lint named 'nope'." in capsys.readouterr().err


def test_the_lints_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--list", "--format", "json"]) == 0
    names = [lint["name"] for lint in json.loads(capsys.readouterr().out)]
    assert main(["lint", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names


def test_the_manual_page_of_lints_names_each_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--list", "--format", "json"]) == 0
    page = Path(__file__).parents[2].joinpath("docs/lint.md").read_text()
    for lint in json.loads(capsys.readouterr().out):
        assert f"| `{lint['name']}` | {lint['type']} |" in page
