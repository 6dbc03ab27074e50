"""The plugin's options: on the command line, or under the same name in pytest's configuration file."""

from pathlib import Path
from typing import NamedTuple

import pytest

from bootc_build.onhost.errors import UsageError


class Option(NamedTuple):
    """An option that takes a value.

    Args:
        name: `accel` is `--bootc-accel` and `bootc_accel`.
        help: what it says.
        metavar: stands for its value.
        choices: the values that it takes; empty for any.
    """

    name: str
    help: str
    metavar: str
    choices: tuple[str, ...] = ()


OPTIONS = (
    Option("accel", "how QEMU runs guests", "{kvm,tcg}", ("kvm", "tcg")),
    Option("image", "the image under test, for the fixture bootc_image", "IMAGE"),
    Option(
        "upgrade-to",
        "the image to upgrade to, for bootc_next_image (default: a small layer more is made)",
        "IMAGE",
    ),
    Option(
        "firmware",
        "of machines for which their test asks for no other (default: bios)",
        "{bios,uefi,uefi-secure}",
        ("bios", "uefi", "uefi-secure"),
    ),
    Option("memory", "of machines for which their test asks for no other (default: 1024)", "MIB"),
    Option(
        "keep",
        "of which tests the machines' files stay (default: failed)",
        "{failed,all}",
        ("failed", "all"),
    ),
    Option(
        "artifacts",
        "folder for the machines' files (default: one of pytest's temporary folders)",
        "DIR",
    ),
    Option(
        "report",
        "write a report for the browser, one HTML file with the machines' consoles inside",
        "FILE",
    ),
    Option(
        "slots",
        "how many machines run at once, of all test processes on this computer "
        "(default: as many as its processors and memory allow)",
        "N",
    ),
    Option(
        "snapshot-cache",
        "how much snapshots of booted machines may take, like 20G (default: 8G)",
        "SIZE",
    ),
)


def declare(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Declare all of them in both places."""
    for option in OPTIONS:
        group.addoption(
            f"--bootc-{option.name}",
            choices=option.choices or None,
            metavar=option.metavar,
            help=option.help,
        )
        parser.addini(_ini(option.name), f"the same as --bootc-{option.name}", default="")


def chosen(config: pytest.Config, name: str) -> str | None:
    """What was chosen for an option: on the command line, or else in the configuration file.

    Raises:
        UsageError: the configuration file has a value that it does not take.
    """
    given = config.getoption(f"--bootc-{name}")
    if given is not None:
        return str(given)
    value = str(config.getini(_ini(name)))
    [option] = [option for option in OPTIONS if option.name == name]
    if value and option.choices and value not in option.choices:
        raise UsageError(
            f"'{value}' is no value for {_ini(name)} in {config.inipath}.",
            f"Choose from: {', '.join(option.choices)}.",
        )
    return value or None


def chosen_path(config: pytest.Config, name: str) -> Path | None:
    """The same for a path; one of the configuration file is relative to that file."""
    value = chosen(config, name)
    if value is None:
        return None
    if config.getoption(f"--bootc-{name}") is None and config.inipath is not None:
        return config.inipath.parent / value
    return Path(value)


def _ini(name: str) -> str:
    return f"bootc_{name.replace('-', '_')}"
