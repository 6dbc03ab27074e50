"""The command that runs one test again as it was run."""

import os
import shlex
from collections.abc import Callable, Iterable, Sequence

import pytest

# Where another program runs pytest: gives that program's command for a test's id.
RERUN: pytest.StashKey[Callable[[str], str]] = pytest.StashKey()

# What chooses tests, spreads them or tells of them is not part of how one test is run; those in the second
# row take a value.
_ALONE = {
    *(
        "-x",
        "--exitfirst",
        "--lf",
        "--last-failed",
        "--ff",
        "--failed-first",
        "--nf",
        "--new-first",
    ),
    *("--sw", "--stepwise", "--sw-skip", "--stepwise-skip", "--bootc-shell-on-fail", "--pdb"),
    *("-q", "--quiet", "-v", "-vv", "-vvv", "--verbose"),
}
_WITH_VALUE = {
    *("-k", "-n", "--numprocesses", "--dist", "--maxprocesses", "--tx", "--maxfail", "--deselect"),
    *(
        "--ignore",
        "--ignore-glob",
        "--junit-xml",
        "--junitxml",
        "--bootc-report",
        "-r",
        "--durations",
    ),
}
# These take a value that says how a test runs: both words stay, and the second is no path of a test.
_KEPT_WITH_VALUE = {"-c", "--config-file", "-p", "-o", "--override-ini", "-W", "--rootdir"}


def rerun_prefix(
    arguments: Sequence[str],
    chosen: Iterable[str],
    *,
    program: str,
    environment: dict[str, str],
    seeds: dict[str, int],
) -> str:
    """The command without the test's name, for a shell.

    Args:
        arguments: of the whole run, as typed.
        chosen: those among them that name tests or folders.
        program: how pytest was called: "pytest" or "python -m pytest".
        environment: of the run; what concerns pytest and this package is repeated.
        seeds: option -> the number that the run drew for it.
    """
    variables = [
        f"{name}={shlex.quote(value)}"
        for name, value in sorted(environment.items())
        if name == "PYTEST_ADDOPTS" or (name.startswith("BOOTC_BUILD_") and value)
    ]
    kept = _options(arguments, set(chosen))
    kept += [f"{name}={seed}" for name, seed in seeds.items() if name not in " ".join(kept)]
    return " ".join([*variables, program, *(shlex.quote(one) for one in kept)])


def rerun_command(prefix: str, nodeid: str, *, root: str, folder: str) -> str:
    """The whole command.

    Args:
        prefix: of `rerun_prefix`.
        nodeid: of the test, relative to `root`.
        root: pytest's root folder.
        folder: where the command is to be typed.
    """
    path, separator, inside = nodeid.partition("::")
    return f"{prefix} {shlex.quote(os.path.relpath(os.path.join(root, path), folder) + separator + inside)}"  # noqa: PTH118 - text


def _options(arguments: Sequence[str], chosen: set[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(arguments)
    for one in rest:
        name, has_value, _ = one.partition("=")
        if one in _KEPT_WITH_VALUE:
            kept += [one, next(rest, "")]
        elif one in _WITH_VALUE:
            next(rest, None)
        elif (
            (name in _WITH_VALUE and has_value)
            or one in _ALONE
            or one in chosen
            or _is_short_with_value(one)
        ):
            continue
        else:
            kept.append(one)
    return kept


def _is_short_with_value(one: str) -> bool:
    # "-n4", "-rP", "-kname": the value without a space.
    return one[:2] in _WITH_VALUE and not one.startswith("--")
