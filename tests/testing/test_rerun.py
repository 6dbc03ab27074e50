"""The command that runs a test again."""

import pytest

from bootc_build.testing.rerun import rerun_command, rerun_prefix


def _prefix(*arguments: str, chosen: tuple[str, ...] = (), **wishes: object) -> str:
    given = {"program": "pytest", "environment": {}, "seeds": {}, **wishes}
    return rerun_prefix(arguments, chosen, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (("-x", "-n", "4", "-k", "one or two", "-n4", "-rP", "--maxfail=1"), "pytest"),
        (("--junit-xml=a.xml", "--junitxml", "b.xml", "--bootc-report", "r.html"), "pytest"),
        (("--bootc-accel=tcg", "--all"), "pytest --bootc-accel=tcg --all"),
        (("--bootc-accel", "tcg"), "pytest --bootc-accel tcg"),
        (("-c", "other.ini", "-o", "bootc_x=a b"), "pytest -c other.ini -o 'bootc_x=a b'"),
        (
            ("-p", "no:randomly", "-m", "long and not x"),
            "pytest -p no:randomly -m 'long and not x'",
        ),
    ],
)
def test_what_says_how_a_test_runs_stays_and_what_chooses_tests_goes(
    arguments: tuple[str, ...], kept: str
) -> None:
    assert _prefix(*arguments) == kept


def test_the_paths_of_the_run_go() -> None:
    assert _prefix("tests", "-s", "a.py::b", chosen=("tests", "a.py::b")) == "pytest -s"


def test_a_seed_that_was_drawn_is_named_and_one_that_was_given_not_twice() -> None:
    assert _prefix(seeds={"--randomly-seed": 7}) == "pytest --randomly-seed=7"
    assert _prefix("--randomly-seed=7", seeds={"--randomly-seed": 7}) == "pytest --randomly-seed=7"


def test_what_the_environment_says_is_repeated() -> None:
    environment = {"BOOTC_BUILD_ACCEL": "tcg", "PYTEST_ADDOPTS": "--a b", "HOME": "/root"}
    assert _prefix(environment=environment, program="python -m pytest") == (
        "BOOTC_BUILD_ACCEL=tcg PYTEST_ADDOPTS='--a b' python -m pytest"
    )


def test_the_test_is_named_from_the_folder_where_one_types() -> None:
    command = rerun_command("pytest", "vms/test_a.py::test_b[x y]", root="/p", folder="/p/vms")
    assert command == "pytest 'test_a.py::test_b[x y]'"
