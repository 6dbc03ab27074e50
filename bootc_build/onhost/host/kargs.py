"""Kernel arguments: an image's ``kargs.d`` files, and what an upgrade does to the host's arguments.

An image ships ``/usr/lib/bootc/kargs.d/*.toml``, read in the order of their names::

    kargs = ["console=ttyS0", "quiet"]
    match-architectures = ["x86_64"]    # optional

The host keeps its own arguments (root, what the administrator added); an upgrade applies only the
difference between the old and the new image's files. Pure functions over tuples of arguments.
"""

import platform
import tomllib
from collections.abc import Mapping, Sequence

from bootc_build.onhost.errors import UserError

KARGS_DIRECTORY = "usr/lib/bootc/kargs.d"
_KNOWN_KEYS = {"kargs", "match-architectures"}

Arguments = tuple[str, ...]


def split_command_line(text: str) -> Arguments:
    """Split as the kernel does: at blanks, except inside double quotes; the quotes stay."""
    arguments: list[str] = []
    current = ""
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character.isspace() and not quoted:
            if current:
                arguments.append(current)
            current = ""
        else:
            current += character
    if current:
        arguments.append(current)
    return tuple(arguments)


def parse_kargs_file(text: str, where: str, architecture: str) -> Arguments:
    """The arguments that one ``kargs.d`` file gives on an architecture (as ``uname -m`` names it).

    Raises:
        UserError: it is not TOML, has an unknown key, or a value of the wrong type.
    """
    remedy = 'Write it as: kargs = ["name=value"], optionally match-architectures = ["x86_64"].'
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where} is not valid TOML: {error}.", remedy) from error
    unknown = sorted(set(table) - _KNOWN_KEYS)
    if unknown:
        raise UserError(f"{where} has the unknown key '{unknown[0]}'.", remedy)
    if "kargs" not in table:
        raise UserError(f"{where} has no key 'kargs'.", remedy)
    for key, value in table.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{where}: '{key}' is not a list of strings.", remedy)
    if architecture not in table.get("match-architectures", [architecture]):
        return ()
    return tuple(part for item in table["kargs"] for part in split_command_line(item))


def image_kargs(files: Mapping[str, str], architecture: str | None = None) -> Arguments:
    """All arguments of an image's ``kargs.d``: ``files`` maps file name to text.

    Raises:
        UserError: a file is wrong; it names the file.
    """
    machine = architecture or platform.machine()
    return tuple(
        argument
        for name in sorted(files)
        if name.endswith(".toml")
        for argument in parse_kargs_file(files[name], f"/{KARGS_DIRECTORY}/{name}", machine)
    )


def upgraded(
    current: Sequence[str], old_image: Sequence[str], new_image: Sequence[str]
) -> Arguments:
    """The host's arguments after an upgrade: what only the old image gave goes, what is new comes.

    Arguments that both images give, and all that the administrator set, stay where they are.
    """
    kept = list(current)
    for argument in old_image:
        if argument not in new_image and argument in kept:
            kept.remove(argument)
    for argument in new_image:
        if argument not in old_image and argument not in kept:
            kept.append(argument)
    return tuple(kept)


def without(arguments: Sequence[str], deletions: Sequence[str]) -> Arguments:
    """Drop arguments: ``name=value`` drops exactly that, ``name`` drops every value of the name."""
    return tuple(
        argument
        for argument in arguments
        if not any(
            argument == gone if "=" in gone else argument.partition("=")[0] == gone
            for gone in deletions
        )
    )
