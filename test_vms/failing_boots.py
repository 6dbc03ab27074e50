"""The boots that fail, and what comes of each."""

from dataclasses import dataclass
from typing import Final

PHASE: Final = "first boot"
TRIES: Final = 3
_ALL_FIRMWARES: Final = ("bios", "uefi", "uefi-secure")
_NO_WORD: Final = "left no word"


@dataclass(frozen=True)
class Case:
    """A fault, how often its version is tried, and what is said of it.

    One try of a fault that takes long shows as much as three do; those are shown by the first ones.

    Args:
        fault: of `broken_images`.
        tries: of its version; 0 where GRUB notices by itself.
        reason: a regular expression.
        firmwares: with which it is tried. What befalls a running kernel or system is the same with each.
    """

    fault: str
    tries: int
    reason: str
    firmwares: tuple[str, ...] = ("bios",)


CASES: Final = {
    case.fault: case
    for case in (
        Case("cut-initramfs", TRIES, _NO_WORD, _ALL_FIRMWARES),
        Case("damaged-kernel", 0, "could not load its kernel", _ALL_FIRMWARES),
        Case("panic", TRIES, _NO_WORD),
        Case("failing-unit", 1, "The boot failed: .*application.service"),
        Case("failing-check", 1, "The boot failed: .*bootc-health.service"),
        Case("hang", 1, "not complete in time: .*endless.service"),
        Case("crash", 1, _NO_WORD),
        Case("emergency", 1, "The boot failed: .*var-lib-data.mount"),
    )
}
FROZEN: Final = Case("frozen", 1, _NO_WORD)
CELLS: Final = [(case.fault, firmware) for case in CASES.values() for firmware in case.firmwares]
