"""``bootc.pyz``: the on-host agent in one file, for a host that was not made from one of our images.

The same sources give the same bytes: names in order, one time, no compression (a slow host reads it often).
Format: Python's zipapp, which is a ``#!`` line and a zip archive with ``__main__.py`` in it.
"""

import stat
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

_MAIN = '''"""The on-host agent `bootc`."""

import sys

from bootc_build.onhost.cli.main import main

sys.exit(main())
'''
_SHEBANG = b"#!/usr/bin/env python3\n"
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can say


def write_pyz(target: Path) -> None:
    """Write the agent to ``target``, complete or not at all; directories are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.new")
    with new.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in sorted(_contents().items()):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, data)
    new.chmod(0o755)
    new.replace(target)


def _contents() -> dict[str, bytes]:
    contents = {"__main__.py": _MAIN.encode()}
    with as_file(files("bootc_build")) as package:
        for path in (package / "__init__.py", *(package / "onhost").rglob("*.py")):
            contents[f"bootc_build/{path.relative_to(package)}"] = path.read_bytes()
    return contents
