"""Which console lines are trouble."""

import re

import pytest

from bootc_build.vm.badness import find_badness


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[    1.2] Kernel panic - not syncing: VFS", "kernel panic"),
        ("[    1.2] BUG: unable to handle page fault", "kernel bug"),
        ("[  242.1] INFO: task dd:412 blocked for more than 120 seconds.", "hung task"),
        ("[    9.1] EXT4-fs error (device vda3): ext4_lookup", "file system error"),
        ("[    9.1] I/O error, dev vda, sector 8", "device error"),
        ("You are in emergency mode. After logging in,", "emergency mode"),
        # systemd 252 and 257.
        ("Press Enter for maintenance", "emergency mode"),
        ("Press Enter for system maintenance", "emergency mode"),
        ("[FAILED] Failed to mount boot.mount - /boot.", "failed mount"),
        ("error: file `/vmlinuz' not found.", "boot loader"),
        ("BdsDxe: No bootable option or device was found.", "firmware"),
    ],
)
def test_a_line_of_trouble_is_told_by_its_kind(line: str, kind: str) -> None:
    assert find_badness(line) == kind
    assert find_badness(line, [re.compile(re.escape(line))]) is None


@pytest.mark.parametrize(
    "line",
    [
        "[  OK  ] Mounted boot.mount - /boot.",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
        "Press Enter to continue",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert find_badness(line) is None
