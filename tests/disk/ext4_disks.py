"""File systems that the ext4 writer makes of folders, and what debugfs says of them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final
from uuid import UUID

from bootc_build.disk.ext4.fill import Identity, make_ext4
from bootc_build.disk.ext4.scan import scan
from bootc_build.tools.e2fsprogs import Ext4Slot

TIMESTAMP: Final = 1_700_000_000
MIB: Final = 1 << 20
OFFSET: Final = 3 * MIB


def fill(tree: Path, disk: Path, size: int = 128 * MIB, *, immutable: str = "") -> Ext4Slot:
    """Make a file system of a folder behind other bytes of a disk."""
    with disk.open("xb") as file:
        file.truncate(OFFSET + size)
    slot = Ext4Slot(disk, OFFSET, size)
    paths = frozenset([os.fsencode(tree / immutable)]) if immutable else frozenset()
    identity = Identity(UUID(int=1), UUID(int=2), "label", TIMESTAMP)
    make_ext4(slot, scan(tree, TIMESTAMP, immutable=paths), identity).write_contents()
    return slot


def require_sound(slot: Ext4Slot) -> None:
    """As e2fsck says."""
    subprocess.run(["e2fsck", "-f", "-n", slot.device], check=True, capture_output=True)


def asked(slot: Ext4Slot, *requests: str) -> list[str]:
    """debugfs's answers."""
    done = subprocess.run(
        ["debugfs", "-f", "-", slot.device],
        input="\n".join(requests) + "\n",
        capture_output=True,
        text=True,
        check=True,
        errors="surrogateescape",
    )
    return re.split(r"^debugfs: .*\n", done.stdout, flags=re.MULTILINE)[1:]
