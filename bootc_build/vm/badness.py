"""What a console shows when a guest is beyond hope; watched while everything else goes on."""

import re
from collections.abc import Iterable

# Not here on purpose: soft lockups and RCU stalls, which a guest under TCG also reports when only the
# host was busy.
_PATTERNS = {
    "kernel panic": r"Kernel panic - not syncing",
    "kernel bug": r"kernel BUG at |BUG: (?:unable to handle|kernel NULL|Bad page|scheduling while)",
    "oops": r"\bOops(?:: | )[0-9a-f#]{4}|general protection fault",
    "hung task": r"INFO: task .{1,80} blocked for more than",
    "out of memory": r"Out of memory: Killed process",
    "file system error": r"EXT4-fs error|XFS \(\S+\): (?:Corruption|Metadata corruption)|BTRFS error",
    "device error": r"(?:critical target|I/O) error, dev ",
    "emergency mode": (
        r"You are in emergency mode|Entering emergency mode|Generating \"/run/initramfs/rdsosreport"
        r"|Press Enter for (?:emergency shell|(?:system )?maintenance)"
        r"|Cannot open access to console, the root account is locked"
    ),
    "failed mount": r"\[FAILED\] Failed to mount|VFS: Unable to mount root",
    "boot loader": (
        r"grub rescue>|error: (?:no such device|file `[^']*' not found|no such partition|unknown filesystem"
        r"|you need to load the kernel first)"
    ),
    "firmware": r"BdsDxe: No bootable option or device|UEFI Interactive Shell|No bootable device",
    "secure boot": r"Security Violation|bad shim signature|Verification failed: \(0x1A\)",
}
_ALL = re.compile("|".join(f"(?P<_{i}>{p})" for i, p in enumerate(_PATTERNS.values())))
_NAMES = tuple(_PATTERNS)


def find_badness(line: str, expected: Iterable[re.Pattern[str]] = ()) -> str | None:
    """The kind of trouble that a console line tells of, if any.

    Args:
        line: one console line, without colours.
        expected: lines that match one of these are no trouble.
    """
    found = _ALL.search(line)
    if found is None or any(pattern.search(line) for pattern in expected):
        return None
    return _NAMES[int((found.lastgroup or "_0")[1:])]
