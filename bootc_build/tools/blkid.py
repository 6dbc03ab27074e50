"""blkid: which file system is at a place in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import run

_NOTHING_FOUND = 2


@dataclass(frozen=True)
class Signature:
    """What is at a place, by its magic bytes.

    Attributes:
        kind: "ext4", "vfat", "btrfs", "xfs", "crypto_LUKS", "LVM2_member" and so on.
        uuid: as that kind writes it; empty where it has none.
        label: empty where it has none.
    """

    kind: str
    uuid: str
    label: str


def probe(disk: Path, offset: int, size: int) -> Signature | None:
    """What is in ``size`` bytes of a file from ``offset`` on; None where nothing is known.

    Raises:
        MissingProgramError, CommandError.
    """
    argv = ["blkid", "--probe", "--offset", str(offset), "--size", str(size), "--output", "export"]
    done = run([*argv, str(disk)], check=False)
    if done.status == _NOTHING_FOUND:
        return None
    fields: Mapping[str, str] = dict(
        line.split("=", 1) for line in done.stdout.splitlines() if "=" in line
    )
    if done.status != 0 or "TYPE" not in fields:
        return None
    return Signature(fields["TYPE"], fields.get("UUID", ""), fields.get("LABEL", ""))
