"""What a check finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what ("qemu-img", "subordinate ids").
        level: missing: a command will fail; warning: something optional will, or will be slow.
        fact: what was found.
        remedy: what to do about it; empty where all is well.
        needed_for: the commands, or the part of them, that need it.
        package: the Debian package whose installation is the remedy, or empty.
    """

    name: str
    level: Level
    fact: str
    remedy: str = ""
    needed_for: str = ""
    package: str = ""


def failed(findings: list[Finding]) -> bool:
    """Whether something that is needed is missing."""
    return any(each.level is Level.MISSING for each in findings)


def installation(findings: list[Finding]) -> str:
    """One command that installs every missing package; empty when none is missing."""
    packages = sorted({each.package for each in findings if each.package})
    return f"apt-get install {' '.join(packages)}" if packages else ""
