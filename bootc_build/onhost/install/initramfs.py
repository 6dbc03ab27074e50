"""What the initramfs of the image that installs itself can do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError

FOLDERS: Final = Path("/usr/lib/modules")


def check(modules: Sequence[Sequence[str]], remedy: str) -> None:
    """Make sure that the initramfs of every kernel has modules of dracut.

    Args:
        modules: of each one under any of its names.
        remedy: how it gets them.

    Raises:
        UserError: one is missing, or there is no lsinitrd to tell.
    """
    process.find_program("lsinitrd", remedy)
    for path in sorted(FOLDERS.glob("*/initramfs.img")):
        has = set(process.run(["lsinitrd", "--mod", str(path)]).stdout.split())
        missing = [names[0] for names in modules if not has.intersection(names)]
        if missing:
            raise UserError(
                f"{path} would not open the root: dracut's {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not in it.",
                remedy,
            )
