"""What a boot loader finds on the file system that holds /boot.

GRUB does not replay a journal: it reads what lies in place. The kernel, and libostree after it, see what the journal
makes of that. So this looks twice at a state, and both have to lead to a whole system.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.host.boot_count import COUNTED, GOOD, LEFT, parse_block
from bootc_build.testing.crash_points.menu import MenuEntry, parse_menu
from bootc_build.tools.e2fsprogs import Ext4Slot
from bootc_build.tools.ext4_inspection import extract

_MENU = "/grub/grub.cfg"
_NAMED = re.compile(r"-([0-9a-f]{64})/[^/]+$")
_LINKS = 40
_ENVIRONMENT = "/bootc.env"
_BLOCK_HEADER = b"# GRUB Environment Block\n"
_BLOCK_BYTES = 1024
_COUNTED = {GOOD, COUNTED, LEFT}
# The name of a deployment, or a number of tries.
_COUNT = re.compile(r"[0-9a-f]{64}\.[0-9]+|[0-9]|")


@dataclass(frozen=True)
class BootView:
    """The menu, and what is wrong with it.

    Args:
        entries: of the menu.
        default: index of the entry that starts by itself; None if GRUB computes it.
        problems: in words; each would end in GRUB's shell or a kernel that does not start.
        counts: what GRUB's environment block says of boots, sorted; None where it is no whole block. Whatever it
            says, the menu starts one of its entries.
    """

    entries: tuple[MenuEntry, ...] = ()
    default: int | None = 0
    problems: tuple[str, ...] = ()
    counts: tuple[tuple[str, str], ...] | None = ()

    @property
    def started(self) -> tuple[MenuEntry, ...]:
        """The entries that may start by themselves."""
        if self.default is None:
            return self.entries
        return self.entries[self.default : self.default + 1]


def look_at_boot(slot: Ext4Slot, scratch: Path) -> BootView:
    """Read the menu and check the kernels that it names.

    Args:
        slot: the file system that holds /boot, as the boot loader sees it.
        scratch: an empty folder of one's own; it is empty again afterwards.
    """
    extract(slot, [("/", scratch)])
    try:
        return _look(scratch)
    finally:
        for path in scratch.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _look(root: Path) -> BootView:
    path = resolve(root, _MENU)
    if path is None or not path.is_file():
        return BootView(problems=(f"GRUB finds no menu: {_MENU} leads nowhere",))
    try:
        menu = parse_menu(path.read_text(errors="backslashreplace"))
    except ValueError as error:
        return BootView(problems=(f"GRUB cannot read its menu: {error}",))
    if not menu.entries:
        return BootView(problems=("GRUB's menu is empty",))
    problems = [problem for entry in menu.entries for problem in _check(root, entry)]
    if menu.default is not None and menu.default >= len(menu.entries):
        problems.append(f"GRUB's default, entry {menu.default}, is not in the menu")
    return BootView(menu.entries, menu.default, tuple(problems), _counts(root))


def _counts(root: Path) -> tuple[tuple[str, str], ...] | None:
    path = resolve(root, _ENVIRONMENT)
    if path is None or not path.is_file():
        return ()
    content = path.read_bytes()
    if len(content) != _BLOCK_BYTES or not content.startswith(_BLOCK_HEADER):
        return None
    found = parse_block(content.decode("ascii", errors="replace"))
    good = found.keys() <= _COUNTED and all(_COUNT.fullmatch(one) for one in found.values())
    return tuple(sorted(found.items())) if good else None


def _check(root: Path, entry: MenuEntry) -> list[str]:
    """Kernel and initramfs are there, and are those that libostree named their folder after."""
    digest = hashlib.sha256()
    for name in (entry.kernel, *entry.initrds):
        path = resolve(root, name)
        if path is None or not path.is_file():
            return [f"'{entry.title}': {name} is not there"]
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    named = _NAMED.search(entry.kernel)
    if named and digest.hexdigest() != named[1]:
        return [f"'{entry.title}': kernel and initramfs beside {entry.kernel} are damaged"]
    return []


def resolve(root: Path, name: str) -> Path | None:
    """Where a path of a file system leads whose files were copied to a folder; links stay inside of it."""
    parts = name.strip("/").split("/")
    at: list[str] = []
    for _ in range(_LINKS):
        while parts:
            part = parts.pop(0)
            if part in {"", "."}:
                continue
            if part == "..":
                at = at[:-1]
                continue
            path = root.joinpath(*at, part)
            if path.is_symlink():
                target = str(path.readlink())
                at = [] if target.startswith("/") else at
                parts = target.split("/") + parts
                break
            if not path.exists():
                return None
            at.append(part)
        else:
            return root.joinpath(*at)
    return None
