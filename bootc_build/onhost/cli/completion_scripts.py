"""Completion scripts for bash, zsh and fish, made from an argparse command line.

Each script carries a table: the words of a verb (``""``, ``upgrade``, ``install to-filesystem``) to what may follow:
verbs, options, and the values of those options that take one of a few, or a file.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option: its spellings, what is said of it, and what its value may be.

    ``values`` is None for an option without a value, empty for any value, else the choices; ``files`` is for paths.
    """

    names: tuple[str, ...]
    summary: str
    values: tuple[str, ...] | None
    files: bool


@dataclass(frozen=True)
class Command:
    """A verb, or the program itself, with all that may follow it."""

    words: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    choices: tuple[str, ...]

    @property
    def path(self) -> str:
        """How the scripts call it: each word with a blank in front."""
        return "".join(f" {word}" for word in self.words)


def command_tree(parser: argparse.ArgumentParser) -> list[Command]:
    """The program and its verbs, from the outer to the inner ones."""
    return list(_commands(parser, ()))


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Command]:
    verbs: list[tuple[str, str]] = []
    options: list[Option] = []
    choices: list[str] = []
    inner: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            inner = dict(action.choices)
            summaries = {
                each.dest: each.help or ""
                for each in action._choices_actions  # noqa: SLF001 - likewise
            }
            verbs = [(name, summaries.get(name, "")) for name in inner]
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            options.append(_option(action))
        else:
            choices.extend(str(choice) for choice in action.choices or ())
    yield Command(words, tuple(verbs), tuple(options), tuple(choices))
    for name, sub in inner.items():
        yield from _commands(sub, (*words, name))


def _option(action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    values = tuple(str(choice) for choice in action.choices or ()) if takes_value else None
    summary = (action.help or "").replace("%(default)s", str(action.default))
    files = (
        takes_value and action.type is not None and getattr(action.type, "__name__", "") == "Path"
    )
    return Option(tuple(action.option_strings), summary, values, files)


def bash(commands: list[Command]) -> str:
    """A script for bash; it needs no other package."""
    lines = ["# Completion of bootc for bash.", "_bootc() {"]
    lines += ['    local current="${COMP_WORDS[COMP_CWORD]}" previous="" place="" words="" word']
    lines += ['    [ "$COMP_CWORD" -eq 0 ] || previous="${COMP_WORDS[COMP_CWORD-1]}"']
    # bash parts words at "=", so the value of --name=value comes as a word of its own.
    lines += ['    if [ "$current" = "=" ]; then current=""']
    lines += ['    elif [ "$previous" = "=" ]; then previous="${COMP_WORDS[COMP_CWORD-2]}"; fi']
    lines += ['    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do']
    lines += ['        case "$place $word" in']
    lines += _paths(commands)
    lines += ["        esac", "    done", '    case "$place $previous" in']
    for command in commands:
        for option in command.options:
            if option.values is not None:
                patterns = "|".join(_quoted(f"{command.path} {name}") for name in option.names)
                lines.append(f"    {patterns}) {_bash_values(option)}; return ;;")
    lines += ["    esac", '    case "$place" in']
    for command in commands:
        verbs = [name for name, _summary in command.verbs]
        names = [name for option in command.options for name in option.names]
        words = " ".join((*verbs, *command.choices, *names))
        lines.append(f"    {_quoted(command.path)}) words={_quoted(words)} ;;")
    lines += ["    esac", '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")', "}"]
    lines += ["complete -F _bootc bootc"]
    return "\n".join(lines) + "\n"


def _paths(commands: list[Command]) -> list[str]:
    """Branches that follow the verbs that are typed already; bash and zsh spell them alike."""
    names = [_quoted(command.path) for command in commands if command.words]
    return [f"        {name}) place={name} ;;" for name in names]


def _bash_values(option: Option) -> str:
    if option.files:
        return (
            'mapfile -t COMPREPLY < <(compgen -f -- "$current"); compopt -o filenames 2>/dev/null'
        )
    words = _quoted(" ".join(option.values or ()))
    return f'mapfile -t COMPREPLY < <(compgen -W {words} -- "$current")'


def zsh(commands: list[Command]) -> str:
    """A script for zsh, to be put on ``$fpath`` as ``_bootc`` or to be sourced."""
    lines = ["#compdef bootc", "# Completion of bootc for zsh.", "_bootc() {"]
    lines += ['    local place="" previous="${words[CURRENT-1]}" word', "    local -a found"]
    lines += ['    for word in "${(@)words[2,CURRENT-1]}"; do', '        case "$place $word" in']
    lines += _paths(commands)
    lines += ["        esac", "    done", '    case "$place $previous" in']
    for command in commands:
        for option in command.options:
            if option.values is not None:
                patterns = "|".join(_quoted(f"{command.path} {name}") for name in option.names)
                action = "_files" if option.files else f"compadd -- {' '.join(option.values)}"
                lines.append(f"    {patterns}) {action}; return ;;")
    lines += ["    esac", '    case "$place" in']
    for command in commands:
        described = [*command.verbs, *((choice, "") for choice in command.choices)]
        described += [(name, each.summary) for each in command.options for name in each.names]
        entries = " ".join(_quoted(_zsh_entry(name, summary)) for name, summary in described)
        lines.append(f"    {_quoted(command.path)}) found=({entries}) ;;")
    lines += ["    esac", "    _describe 'bootc' found", "}", "compdef _bootc bootc"]
    return "\n".join(lines) + "\n"


def _zsh_entry(name: str, summary: str) -> str:
    escaped = name.replace(":", "\\:")
    return f"{escaped}:{summary}" if summary else escaped


def fish(commands: list[Command]) -> str:
    """A script for fish."""
    lines = ["# Completion of bootc for fish.", "complete -c bootc -f"]
    for command in commands:
        seen = " ".join(command.words)
        others = " ".join(name for name, _summary in command.verbs)
        condition = f"__fish_seen_subcommand_from {seen.split(' ')[-1]}" if seen else ""
        if others:
            none = f"not __fish_seen_subcommand_from {others}"
            condition = f"{condition}; and {none}" if condition else none
        start = (
            f"complete -c bootc -n {_fish_quoted(condition)}" if condition else "complete -c bootc"
        )
        for name, summary in command.verbs:
            lines.append(f"{start} -a {_fish_quoted(name)} -d {_fish_quoted(summary)}")
        if command.choices:
            lines.append(f"{start} -a {_fish_quoted(' '.join(command.choices))}")
        lines.extend(f"{start} {_fish_option(option)}" for option in command.options)
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    ]
    if option.values is not None:
        parts.append("-r")
        if option.files:
            parts.append("-F")
        elif option.values:
            parts.append(f"-a {_fish_quoted(' '.join(option.values))}")
    return " ".join((*parts, f"-d {_fish_quoted(option.summary)}"))


def _quoted(text: str) -> str:
    """In single quotes, for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    """In single quotes, for fish."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
