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
from dataclasses import dataclass

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.image_tree import Tree, drop_in_names, resolve

KARGS_DIRECTORY = "usr/lib/bootc/kargs.d"
_KNOWN_KEYS = {"kargs", "match-architectures"}
# libostree's own: it names the deployment, and is written anew with every boot entry.
DEPLOYMENT_ARGUMENT = "ostree"

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


def file_text(tree: Tree, name: str) -> str:
    """The text of a ``kargs.d`` file, or of the one that it links to.

    Raises:
        UserError: it leads nowhere, is no file or not UTF-8.
    """
    path = f"{KARGS_DIRECTORY}/{name}"
    text = tree.text(resolve(tree, path))
    if text is None:
        what = "leads to no file" if tree.link(path) is not None else "is not a file"
        raise UserError(f"/{path} {what}.", "Make it one, or remove it, in the Containerfile.")
    return text


def kargs_of(tree: Tree) -> Arguments:
    """All arguments of an image's ``kargs.d``.

    Raises:
        UserError: the directory or a file in it is wrong; it names the file.
    """
    names = drop_in_names(tree, KARGS_DIRECTORY)
    return image_kargs({name: file_text(tree, name) for name in names if name.endswith(".toml")})


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


def of_deployment(options: str) -> Arguments:
    """The arguments in the options of a boot entry, without the one that names the deployment."""
    return without(split_command_line(options), [DEPLOYMENT_ARGUMENT])


@dataclass(frozen=True)
class Edits:
    """Changes to a command line, in the words of rpm-ostree; each is ``NAME`` or ``NAME=VALUE``.

    Args:
        append: add at the end, even when it is there already.
        append_if_missing: add at the end, unless it is there.
        delete: ``NAME`` has to be there once, ``NAME=VALUE`` at least once; the first is removed.
        delete_if_present: as ``delete``, but what is not there is no error, and ``NAME=VALUE`` goes as often as it
            is there.
        replace: ``NAME=OLD=NEW``, or ``NAME=NEW`` where the name is there once; see `_replace`.
    """

    append: tuple[str, ...] = ()
    append_if_missing: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    delete_if_present: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()

    @property
    def mentioned(self) -> Arguments:
        """Every argument that is named."""
        kinds = (self.append, self.append_if_missing, self.delete, self.delete_if_present)
        return tuple(each for kind in (*kinds, self.replace) for each in kind)


def edited(current: Sequence[str], edits: Edits) -> Arguments:
    """A command line after deletions, replacements and additions, in this order.

    Raises:
        UserError: something to delete or replace is not there, or it is not clear which is meant.
    """
    for each in edits.mentioned:
        _check_argument(each)
    arguments = list(current)
    for gone in edits.delete:
        del arguments[_place(arguments, gone)]
    for gone in edits.delete_if_present:
        _delete_if_present(arguments, gone)
    for change in edits.replace:
        _replace(arguments, change)
    arguments.extend(edits.append)
    for new in edits.append_if_missing:
        if new not in arguments:
            arguments.append(new)
    return tuple(arguments)


def _check_argument(argument: str) -> None:
    if split_command_line(argument) != (argument,) or argument.count('"') % 2:
        raise UserError(
            f"{argument!r} is not one kernel argument.",
            'Quote a value with blanks as the kernel does: name="a b"; repeat the option for more.',
        )
    if not _name(argument):
        raise UserError(f"'{argument}' has no name.")
    if _name(argument) == DEPLOYMENT_ARGUMENT:
        raise UserError("'ostree=' names the deployment that is booted; it cannot be changed.")


def _name(argument: str) -> str:
    return argument.partition("=")[0]


def _place(arguments: Sequence[str], wanted: str) -> int:
    """Where an argument is, by its name and value, or by its name alone."""
    if wanted in arguments:
        return arguments.index(wanted)
    places = [index for index, each in enumerate(arguments) if _name(each) == wanted]
    if not places:
        raise UserError(f"There is no kernel argument '{wanted}'.", "Look at: bootc kargs")
    if len(places) > 1:
        values = ", ".join(arguments[index] for index in places)
        raise UserError(f"'{wanted}' is there more than once: {values}.", "Say which: NAME=VALUE.")
    return places[0]


def _delete_if_present(arguments: list[str], gone: str) -> None:
    """Never more than was named: ``console`` does not mean each of two consoles, nor ``root`` that there is none."""
    if gone in arguments:
        arguments[:] = [each for each in arguments if each != gone]
    elif any(_name(each) == gone for each in arguments):
        del arguments[_place(arguments, gone)]


def _replace(arguments: list[str], change: str) -> None:
    """Give an argument another value.

    Values may have equals signs themselves (``root=UUID=a=UUID=b``): the old value is what is there. Without an old
    one, a new value with an equals sign is taken only in place of one of its kind (``root=UUID=b`` for
    ``root=UUID=a``). Else a wrong old value, or the same change made twice, would leave ``quiet=0=1``.
    """
    name, equals, rest = change.partition("=")
    if not equals:
        raise UserError(f"'{change}' says no new value.", "Write NAME=NEW or NAME=OLD=NEW.")
    ends = [index for index, character in enumerate(rest) if character == "="]
    for end in ends:
        old = f"{name}={rest[:end]}"
        if old in arguments:
            arguments[arguments.index(old)] = f"{name}={rest[end + 1 :]}"
            return
    place = _place(arguments, name)
    if ends and not arguments[place].startswith(f"{name}={rest[: ends[0] + 1]}"):
        raise UserError(
            f"There is no kernel argument '{name}={rest[: ends[0]]}'; there is '{arguments[place]}'.",
            f"Write NAME=OLD=NEW: {arguments[place]}{'' if '=' in arguments[place] else '='}=NEW.",
        )
    arguments[place] = f"{name}={rest}"
