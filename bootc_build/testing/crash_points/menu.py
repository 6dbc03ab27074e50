"""What a GRUB menu offers, read from its text. Pure.

Only what ostree's and our own generators write is understood: `menuentry TITLE … {`, in it `linux KERNEL ARGUMENTS`
and `initrd FILE…` on lines of their own, and `set default=`. A default that GRUB computes (boot counting) is not
evaluated: then any entry may be started, and has to work.
"""

import shlex
from dataclasses import dataclass

_OSTREE = "ostree="


@dataclass(frozen=True)
class MenuEntry:
    """One entry.

    Args:
        title: as shown.
        kernel: path as GRUB sees it.
        initrds: paths likewise.
        arguments: of the kernel.
    """

    title: str
    kernel: str
    initrds: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def deployment_link(self) -> str | None:
        """Where the root file system has the link to the deployment (the kernel argument `ostree=`)."""
        found = [one for one in self.arguments if one.startswith(_OSTREE)]
        return found[-1].removeprefix(_OSTREE) if found else None


@dataclass(frozen=True)
class Menu:
    """A menu.

    Args:
        entries: in their order.
        default: index of the entry that is started by itself; None if GRUB computes it.
    """

    entries: tuple[MenuEntry, ...]
    default: int | None


def parse_menu(text: str) -> Menu:
    """Read a menu.

    Raises:
        ValueError: it ends in the middle of an entry or a word, so GRUB would not take it either.
    """
    entries: list[MenuEntry] = []
    defaults: set[str] = set()
    title: str | None = None
    kernel = ""
    initrds: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        words = _words(line)
        if words[:1] == ["menuentry"] and words[-1] == "{":
            title, kernel, initrds, arguments = words[1], "", (), ()
        elif title is not None and words[:1] == ["linux"] and len(words) > 1:
            kernel, arguments = words[1], tuple(words[2:])
        elif title is not None and words[:1] == ["initrd"]:
            initrds = tuple(words[1:])
        elif title is not None and words == ["}"]:
            if not kernel:
                raise ValueError(f"the entry '{title}' names no kernel")
            entries.append(MenuEntry(title, kernel, initrds, arguments))
            title = None
        elif words[:1] == ["set"] and words[-1].startswith("default="):
            defaults.add(words[-1].removeprefix("default="))
    if title is not None:
        raise ValueError(f"the entry '{title}' has no end")
    return Menu(tuple(entries), _index(defaults))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"a line has no end: {line.strip()[:60]}") from error


def _index(defaults: set[str]) -> int | None:
    if not defaults:
        return 0
    [one] = defaults if len(defaults) == 1 else [""]
    return int(one) if one.isdecimal() else None
